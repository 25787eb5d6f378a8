#include "picture.h"

#include <png.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>

Picture read_png(const std::string& path, std::int64_t most_pixels) {
  if (!std::ifstream(path)) throw std::runtime_error(path + " cannot be opened: " + std::strerror(errno));
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  const auto refuse = [&] {
    const std::string why = image.message;
    png_image_free(&image);
    throw std::runtime_error(path + " is not a PNG file that can be read (" + why + "): convert the picture to PNG");
  };
  if (!png_image_begin_read_from_file(&image, path.c_str())) refuse();
  const std::int64_t height = image.height, width = image.width;
  if (height * width > most_pixels) {
    png_image_free(&image);
    throw std::runtime_error("the photo has " + std::to_string(width) + "×" + std::to_string(height) +
                             " pixels, and this program draws up to " + std::to_string(most_pixels) +
                             " in one piece: use srflow-upscale, which draws tiles");
  }
  const bool gray = (image.format & PNG_FORMAT_FLAG_COLOR) == 0;
  image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;  // libpng takes 16-bit values as linear light otherwise
  image.format = PNG_FORMAT_RGB;
  Picture picture{height, width, std::vector<std::uint8_t>(PNG_IMAGE_SIZE(image)), gray};
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
  std::error_code error;
  std::filesystem::rename(part, path, error);
  if (error) {
    std::remove(part.c_str());
    throw std::runtime_error(path + " cannot be written: " + error.message());
  }
}
