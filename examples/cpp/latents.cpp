#include "latents.h"

#include <algorithm>

#include "srflow/latents.h"

std::vector<float> standard_normal(std::uint64_t seed, int level, std::int64_t channels, std::int64_t height,
                                   std::int64_t width) {
  constexpr std::uint64_t kSample = 0;
  std::vector<float> noise(channels * height * width);
  for (std::int64_t first = 0; first < channels; first += srflow::kChannelsPerBlock) {
    const std::int64_t count = std::min<std::int64_t>(srflow::kChannelsPerBlock, channels - first);
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const auto block = srflow::latent_block(seed, kSample, level, first / srflow::kChannelsPerBlock, y, x);
        for (int j = 0; j < count; ++j) {
          noise[((first + j) * height + y) * width + x] = srflow::normal_from_word(srflow::block_word(block, j));
        }
      }
    }
  }
  return noise;
}
