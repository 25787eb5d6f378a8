#include "srflow/latents.h"
#include "srflow/sizes.h"
#include "srflow/srflow.h"

const char* srflow_version(void) { return SRFLOW_VERSION; }

int srflow_standard_normal(uint64_t seed, uint64_t sample, int level, int channels, int64_t top, int64_t left,
                           int64_t height, int64_t width, float* out) {
  if (out == nullptr || !srflow::window_is_valid(level, channels, top, left, height, width)) return 1;
  const int64_t plane = height * width;
  for (int first = 0; first < channels; first += srflow::kChannelsPerBlock) {
    const int count = channels - first < srflow::kChannelsPerBlock ? channels - first : srflow::kChannelsPerBlock;
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        const srflow::PhiloxBlock block =
            srflow::latent_block(seed, sample, level, first / srflow::kChannelsPerBlock, top + y, left + x);
        for (int j = 0; j < count; ++j)
          out[(first + j) * plane + y * width + x] = srflow::normal_from_word(srflow::block_word(block, j));
      }
    }
  }
  return 0;
}
