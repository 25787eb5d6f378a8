#include "picture.h"

#include <png.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

Picture read_png(const std::string& path) {
  if (!std::ifstream(path)) throw std::runtime_error(path + " cannot be opened: " + std::strerror(errno));
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  const auto refuse = [&] {
    const std::string why = image.message;
    png_image_free(&image);
    throw std::runtime_error(path + " is not a PNG file that can be read (" + why + "): convert the picture to PNG");
  };
  if (!png_image_begin_read_from_file(&image, path.c_str())) refuse();
  image.format = PNG_FORMAT_RGB;
  Picture picture{image.height, image.width, std::vector<std::uint8_t>(PNG_IMAGE_SIZE(image))};
  const png_color white = {255, 255, 255};
  if (!png_image_finish_read(&image, &white, picture.rgb.data(), 0, nullptr)) refuse();
  return picture;
}

void write_png(const std::string& path, const Picture& picture) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.format = PNG_FORMAT_RGB;
  image.height = static_cast<png_uint_32>(picture.height);
  image.width = static_cast<png_uint_32>(picture.width);
  const std::string part = path + ".part";
  if (!png_image_write_to_file(&image, part.c_str(), 0, picture.rgb.data(), 0, nullptr)) {
    std::remove(part.c_str());
    throw std::runtime_error(path + " cannot be written: " + image.message);
  }
  std::filesystem::rename(part, path);
}
