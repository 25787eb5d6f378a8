// What a drawing does on the GPU before the network: its latents.
//
// srflow_sdk/backends/tensorrt_engines/drawing.ptx is made of this file, by make_ptx.py, and execution.py there launches
// it. All arguments have 64 bits, and what changes from one drawing to the next lies in device memory, so that a CUDA
// graph holds for all drawings of a size.
#ifndef SRFLOW_CUDA_DRAWING_CUH_
#define SRFLOW_CUDA_DRAWING_CUH_

#include "block.cuh"
#include "srflow/latents.h"

namespace srflow {

// What changes.
struct Drawing {
  std::uint64_t seed, sample;
  std::int64_t top, left, height, width;  // of the noise, in LR pixels of the whole image
};

}  // namespace srflow

// The noise of one level, channels×height×width, which may be larger than the drawing's window: zero beyond it. map: null,
// or the window's temperatures on the level's grid. Coordinates before the image are those of the field's end.
//
// Launch with blocks over the pixels (x) and over groups of eight channels (y).
extern "C" __global__ void srflow_draw_latents(const srflow::Drawing* drawing, std::int64_t scale, std::int64_t level,
                                               std::int64_t channels, std::int64_t height, std::int64_t width,
                                               const float* map, float* out) {
  using namespace srflow;
  const std::int64_t pixels = height * width;
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pixel >= pixels) return;
  const std::int64_t y = quotient(pixel, width), x = pixel - y * width;
  const std::int64_t drawn_width = drawing->width * scale >> level;
  const bool inside = x < drawn_width && y < drawing->height * scale >> level;
  const auto top = static_cast<std::uint32_t>(drawing->top * scale >> level);
  const auto left = static_cast<std::uint32_t>(drawing->left * scale >> level);
  PhiloxBlock block = latent_block(drawing->seed, drawing->sample, static_cast<int>(level), blockIdx.y,
                                   top + static_cast<std::uint32_t>(y), left + static_cast<std::uint32_t>(x));
  const float factor = map != nullptr && inside ? map[y * drawn_width + x] : 1.0f;
  std::int64_t channel = static_cast<std::int64_t>(blockIdx.y) * kChannelsPerBlock;
  const std::int64_t end = channel + kChannelsPerBlock < channels ? channel + kChannelsPerBlock : channels;
#pragma unroll 1
  for (; channel < end; ++channel) {
    const float normal = inside ? normal_from_word(block_word(block, 0)) : 0.0f;
    out[channel * pixels + pixel] = __fmul_rn(normal, factor);
#pragma unroll
    for (int j = 0; j < 4; ++j)  // the next word comes first
      block.word[j] = block.word[j] >> 32 | (j < 3 ? block.word[j + 1] << 32 : 0);
  }
}

#endif  // SRFLOW_CUDA_DRAWING_CUH_
