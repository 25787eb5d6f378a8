#include <cuda_runtime.h>

#include <climits>

#include "drawing.cuh"
#include "srflow/sizes.h"
#include "srflow/srflow.h"

// The kernel of the C interface, which takes a window by value.
static __global__ void standard_normal(srflow::LatentWindow window, float* out) {
  srflow::draw_latents(window, nullptr, out);
}

int srflow_standard_normal_cuda(uint64_t seed, uint64_t sample, int level, int channels, int64_t top, int64_t left,
                                int64_t height, int64_t width, float* device_out, void* stream) {
  constexpr int kThreads = 128, kInvalid = 1, kRefused = 2;
  if (device_out == nullptr || !srflow::window_is_valid(level, channels, top, left, height, width)) return kInvalid;
  const int64_t blocks = (height * width + kThreads - 1) / kThreads;
  if (blocks > INT_MAX) return kRefused;
  const unsigned groups = (channels + srflow::kChannelsPerBlock - 1) / srflow::kChannelsPerBlock;
  const dim3 grid(static_cast<unsigned>(blocks), groups);
  standard_normal<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      {seed, sample, level, channels, top, left, height, width}, device_out);
  return cudaGetLastError() == cudaSuccess ? 0 : kRefused;
}
