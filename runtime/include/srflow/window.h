// The valid ranges of a window of latents, the same for every device.
#ifndef SRFLOW_WINDOW_H_
#define SRFLOW_WINDOW_H_

#include <cstdint>

namespace srflow {

// Whether srflow_standard_normal takes these arguments (ranges: srflow/srflow.h).
inline bool window_is_valid(int level, int channels, std::int64_t top, std::int64_t left, std::int64_t height,
                            std::int64_t width) {
  constexpr std::int64_t kCoordinateLimit = std::int64_t{1} << 32;
  return level >= 1 && level <= 63 && channels >= 1 && channels <= 65536 && top >= 0 && top < kCoordinateLimit &&
         left >= 0 && left < kCoordinateLimit && height >= 1 && height <= kCoordinateLimit - top && width >= 1 &&
         width <= kCoordinateLimit - left;
}

}  // namespace srflow

#endif  // SRFLOW_WINDOW_H_
