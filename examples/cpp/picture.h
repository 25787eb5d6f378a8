// Pictures: 8-bit RGB in memory, PNG in files.
#ifndef UPSCALE_PICTURE_H_
#define UPSCALE_PICTURE_H_

#include <cstdint>
#include <string>
#include <vector>

struct Picture {
  std::int64_t height = 0, width = 0;
  std::vector<std::uint8_t> rgb;  // height × width × 3
  bool gray = false;              // red, green and blue are the same
};

// Both throw std::runtime_error with one line: what, why, how to fix it.

// Transparent parts become white, and deeper pixels 8-bit. A photo of more than most_pixels is refused before its pixels
// are read.
Picture read_png(const std::string& path, std::int64_t most_pixels);

// The file appears complete or not at all.
void write_png(const std::string& path, const Picture& picture);

#endif  // UPSCALE_PICTURE_H_
