// The sizes that every device takes, and the valid ranges of a window of latents.
#ifndef SRFLOW_SIZES_H_
#define SRFLOW_SIZES_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace srflow {

// Whether none of the sizes is negative, and a float32 tensor of them could be in memory: its bytes, and so every index
// into it, fit a ptrdiff_t. A size of 0 counts as 1, because parts of the product are computed, too.
inline bool sizes_fit(std::initializer_list<std::int64_t> sizes) {
  std::int64_t most = PTRDIFF_MAX / static_cast<std::int64_t>(sizeof(float));
  for (const std::int64_t size : sizes) {
    if (size < 0) return false;
    if (size > 0) most /= size;
  }
  return most > 0;
}

// Whether srflow_standard_normal takes these arguments (ranges: srflow/srflow.h).
inline bool window_is_valid(int level, int channels, std::int64_t top, std::int64_t left, std::int64_t height,
                            std::int64_t width) {
  constexpr std::int64_t kCoordinateLimit = std::int64_t{1} << 32;
  return level >= 1 && level <= 63 && channels >= 1 && channels <= 65536 && top >= 0 && top < kCoordinateLimit &&
         left >= 0 && left < kCoordinateLimit && height >= 1 && height <= kCoordinateLimit - top && width >= 1 &&
         width <= kCoordinateLimit - left && sizes_fit({channels, height, width});
}

}  // namespace srflow

#endif  // SRFLOW_SIZES_H_
