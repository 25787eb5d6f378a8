// What a drawing does on the GPU around the network: its latents before, and levels of 8 or 16 bits after.
//
// srflow_sdk/backends/tensorrt_engines/drawing.ptx is made of this file, by make_ptx.py, and execution.py there launches
// it. All arguments have 64 bits, and what changes from one drawing to the next lies in device memory, so that a CUDA
// graph holds for all drawings of a size.
#ifndef SRFLOW_CUDA_DRAWING_CUH_
#define SRFLOW_CUDA_DRAWING_CUH_

#include "block.cuh"
#include "srflow/latents.h"

namespace srflow {

// What changes. `unusable` becomes 1 where a value cannot be a picture's.
struct Drawing {
  std::uint64_t seed, sample;
  std::int64_t top, left;                                     // of the noise, in LR pixels of the whole image
  std::int64_t core_top, core_left, core_height, core_width;  // of what is wanted, in HR pixels of the picture
  std::int64_t unusable;
};

constexpr float kFar = 3.0e38f;                              // beyond the luma of every pixel
constexpr float kLargest = 65504.0f;                         // of float16, as painter.py has it
constexpr float kRed = 0.299f, kGreen = 0.587f, kBlue = 0.114f;  // luma, as in_memory.py has it

// Float32 operations that are rounded one by one, as numpy's.
#if defined(__CUDA_ARCH__)
SRFLOW_HD float sum(float a, float b) { return __fadd_rn(a, b); }
SRFLOW_HD float product(float a, float b) { return __fmul_rn(a, b); }
SRFLOW_HD float quotient_of(float a, float b) { return __fdiv_rn(a, b); }
SRFLOW_HD int nearest(float a) { return __float2int_rn(a); }
#else
SRFLOW_HD float sum(float a, float b) { return a + b; }
SRFLOW_HD float product(float a, float b) { return a * b; }
SRFLOW_HD float quotient_of(float a, float b) { return a / b; }
SRFLOW_HD int nearest(float a) { return static_cast<int>(std::nearbyint(a)); }
#endif

// A window of one level's latents, on its own grid. Coordinates wrap at 2^32.
struct LatentWindow {
  std::uint64_t seed, sample;
  std::int64_t level, channels, top, left, height, width;
};

// The noise of one level, channels×height×width. map: null, or the window's temperatures.
//
// Launch with blocks over the pixels (x) and over groups of eight channels (y).
__device__ inline void draw_latents(const LatentWindow& window, const float* map, float* out) {
  const std::int64_t pixels = window.height * window.width;
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pixel >= pixels) return;
  const std::int64_t y = quotient(pixel, window.width), x = pixel - y * window.width;
  PhiloxBlock block =
      latent_block(window.seed, window.sample, static_cast<int>(window.level), blockIdx.y,
                   static_cast<std::uint32_t>(window.top + y), static_cast<std::uint32_t>(window.left + x));
  const float factor = map != nullptr ? map[pixel] : 1.0f;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * kChannelsPerBlock;
  const std::int64_t left = window.channels - first, count = left < kChannelsPerBlock ? left : kChannelsPerBlock;
  float* place = out + first * pixels + pixel;
  std::uint32_t tails = 0;  // of which channels the number is in a tail: a seventh
#if defined(__CUDACC__)
#pragma unroll 1
#endif
  for (std::int64_t channel = 0; channel < count; ++channel) {
    const std::uint32_t word = block_word(block, 0);
    const double q = centred(word);
    if (in_middle(q)) {
      place[channel * pixels] = product(normal_in_middle(q), factor);
    } else {
      place[channel * pixels] = bits_as<float>(word);
      tails |= 1u << channel;
    }
    for (int j = 0; j < 4; ++j)  // the next word comes first
      block.word[j] = block.word[j] >> 32 | (j < 3 ? block.word[j + 1] << 32 : 0);
  }
  // A warp computes a tail's longer formula if one of its threads needs it. In the loop above that is for every channel,
  // here as often as one thread has tails, which is three or four times.
#if defined(__CUDACC__)
#pragma unroll 1
#endif
  while (tails != 0) {
    for (; (tails & 1) == 0; tails >>= 1) place += pixels;
    *place = product(normal_in_tail(centred(bits_as<std::uint32_t>(*place))), factor);
    tails &= ~1u;
  }
}

SRFLOW_HD float less_of(float a, float b) { return a < b ? a : b; }
SRFLOW_HD float more_of(float a, float b) { return a > b ? a : b; }
SRFLOW_HD float within(float value, float low, float high) { return less_of(more_of(value, low), high); }
SRFLOW_HD float luma_of(float red, float green, float blue) {
  return sum(sum(product(kRed, red), product(kGreen, green)), product(kBlue, blue));
}

// What conservative smoothing adds to a pixel of a picture, 3×height×width: conservative_smoothing.py in the SDK.
SRFLOW_HD float smoothing(const float* picture, std::int64_t height, std::int64_t width, std::int64_t y,
                          std::int64_t x) {
  const std::int64_t plane = height * width;
  float own = 0, least = kFar, second_least = kFar, most = -kFar, second_most = -kFar;
  for (std::int64_t row = y - 1; row <= y + 1; ++row) {
    for (std::int64_t column = x - 1; column <= x + 1; ++column) {
      const std::int64_t inner_row = row < 0 ? 0 : row < height ? row : height - 1;
      const std::int64_t inner_column = column < 0 ? 0 : column < width ? column : width - 1;
      const float* const from = picture + inner_row * width + inner_column;
      const float luma = luma_of(from[0], from[plane], from[2 * plane]);
      if (row == y && column == x) {
        own = luma;
        continue;
      }
      second_least = less_of(second_least, more_of(least, luma));
      least = less_of(least, luma);
      second_most = more_of(second_most, less_of(most, luma));
      most = more_of(most, luma);
    }
  }
  return sum(within(own, second_least, second_most), -own);
}

}  // namespace srflow

// The latents of one level. See draw_latents.
extern "C" __global__ void srflow_draw_latents(const srflow::Drawing* drawing, std::int64_t scale, std::int64_t level,
                                               std::int64_t channels, std::int64_t height, std::int64_t width,
                                               const float* map, float* out) {
  const std::int64_t top = drawing->top * scale >> level, left = drawing->left * scale >> level;
  srflow::draw_latents({drawing->seed, drawing->sample, level, channels, top, left, height, width}, map, out);
}

// The core of a picture, 3×height×width, as levels from 0 to `most`, 255 or 65535, core_height×core_width×3: first, if
// `smoothed` is 1, smoothed, then within bounds of its chroma (ChromaBounds in low_resolution.py), then clipped to [0, 1], times `most`, to the nearest integer,
// halves to even. bounds: null, or for each LR pixel of the core the least blue and red less luma, and the largest.
//
// Launch with blocks over the picture's pixels.
extern "C" __global__ void srflow_finish(srflow::Drawing* drawing, std::int64_t scale, std::int64_t most,
                                         std::int64_t height, std::int64_t width, std::int64_t smoothed,
                                         const float* picture, const float* bounds, void* out) {
  using namespace srflow;
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t core_width = drawing->core_width;
  if (pixel >= drawing->core_height * core_width) return;
  const std::int64_t y = quotient(pixel, core_width), x = pixel - y * core_width, plane = height * width;
  const float* const from = picture + (drawing->core_top + y) * width + drawing->core_left + x;
  float red = from[0], green = from[plane], blue = from[2 * plane];
  const bool usable = red >= -kLargest && red <= kLargest && green >= -kLargest && green <= kLargest &&
                      blue >= -kLargest && blue <= kLargest;  // not so if one is NaN
  if (!usable) drawing->unusable = 1;
  if (smoothed != 0) {
    const float change = smoothing(picture, height, width, drawing->core_top + y, drawing->core_left + x);
    red = sum(red, change);
    green = sum(green, change);
    blue = sum(blue, change);
  }
  if (bounds != nullptr) {
    const std::int64_t columns = quotient(core_width, scale), places = columns * quotient(drawing->core_height, scale);
    const float* const bound = bounds + quotient(y, scale) * columns + quotient(x, scale);
    const float luma = luma_of(red, green, blue);
    const float own_blue = sum(blue, -luma), own_red = sum(red, -luma);
    const float near_blue = within(own_blue, bound[0], bound[2 * places]);
    const float near_red = within(own_red, bound[places], bound[3 * places]);
    if (near_blue != own_blue || near_red != own_red) {
      red = sum(luma, near_red);
      green = sum(luma, -quotient_of(sum(product(kRed, near_red), product(kBlue, near_blue)), kGreen));
      blue = sum(luma, near_blue);
    }
  }
  const float values[] = {red, green, blue}, largest = static_cast<float>(most);
  for (int channel = 0; channel < 3; ++channel) {
    const int level = nearest(product(within(values[channel], 0.0f, 1.0f), largest));
    if (most == 255) {
      static_cast<std::uint8_t*>(out)[pixel * 3 + channel] = static_cast<std::uint8_t>(level);
    } else {
      static_cast<std::uint16_t*>(out)[pixel * 3 + channel] = static_cast<std::uint16_t>(level);
    }
  }
}

#endif  // SRFLOW_CUDA_DRAWING_CUH_
