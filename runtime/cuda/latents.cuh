// Latents on the GPU, equal to those of srflow_sdk/latents/random_field.py bit for bit: a thread computes one Philox block, which is
// eight channels of one latent pixel.
#ifndef SRFLOW_CUDA_LATENTS_CUH_
#define SRFLOW_CUDA_LATENTS_CUH_

#include "block.cuh"
#include "srflow/latents.h"

namespace srflow {

struct LatentWindow {
  std::uint64_t seed, sample;
  int level, channels;
  std::int64_t top, left, height, width;
};

// Launch with blocks over the window's pixels (x) and over groups of eight channels (y). out: channels×height×width.
__global__ void standard_normal_kernel(LatentWindow window, float* out) {
  const std::int64_t pixels = window.height * window.width;
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pixel >= pixels) return;
  const int first = static_cast<int>(blockIdx.y) * kChannelsPerBlock;
  const std::int64_t y = quotient(pixel, window.width), x = pixel - y * window.width;
  const PhiloxBlock block =
      latent_block(window.seed, window.sample, window.level, blockIdx.y, window.top + y, window.left + x);
#pragma unroll
  for (int j = 0; j < kChannelsPerBlock; ++j) {
    if (first + j < window.channels) out[(first + j) * pixels + pixel] = normal_from_word(block_word(block, j));
  }
}

}  // namespace srflow

#endif  // SRFLOW_CUDA_LATENTS_CUH_
