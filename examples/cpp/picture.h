// Pictures: 8-bit RGB in memory, PNG in files.
#ifndef UPSCALE_PICTURE_H_
#define UPSCALE_PICTURE_H_

#include <cstdint>
#include <string>
#include <vector>

struct Picture {
  std::int64_t height = 0, width = 0;
  std::vector<std::uint8_t> rgb;  // height × width × 3
};

// Both throw std::runtime_error with one line: what, why, how to fix it.

// Transparent parts become white, and deeper pixels 8-bit.
Picture read_png(const std::string& path);

// The file appears complete or not at all.
void write_png(const std::string& path, const Picture& picture);

#endif  // UPSCALE_PICTURE_H_
