// UnsqueezeSplit on the GPU: a thread computes two neighbouring elements of an output row.
//
// Both come from the same place in two input channels, so a warp reads and writes contiguously.
#ifndef SRFLOW_CUDA_UNSQUEEZE_SPLIT_CUH_
#define SRFLOW_CUDA_UNSQUEEZE_SPLIT_CUH_

#include "block.cuh"
#include "srflow/flow_ops.h"

namespace srflow {

// Launch with blocks over a plane's pairs (x), over output channels (y) and over samples (z; they may be fewer than the
// batch). packs: head (if its channels are not last) and noise are aligned to pairs.
template <typename T>
__global__ void unsqueeze_split_kernel(UnsqueezeSplitArgs<T> args, bool packs) {
  const std::int64_t pair = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pair >= args.height * (args.width / 2)) return;
  const std::int64_t pixels = args.height * args.width, pixel = 2 * pair;
  const std::int64_t y = quotient(pixel, args.width), x = pixel - y * args.width;
  const std::int64_t channel = blockIdx.y;
  for (std::int64_t sample = blockIdx.z; sample < args.batch; sample += gridDim.z) {
    float values[2];
    if (channel < args.kept) {
      values[0] = args.h[unsqueeze_source(args, sample, channel, y, x)];
      values[1] = args.h[unsqueeze_source(args, sample, channel, y, x + 1)];
    } else {
      const std::int64_t drawn = channel - args.kept;
      float mean[2], logs[2], noise[2];
      const auto read = [&](std::int64_t from, float(&to)[2]) {
        read_head(args.head, args.channels_last, 2 * args.drawn, pixels, sample, from, pixel, packs, to);
      };
      read(drawn, mean);
      read(drawn + args.drawn, logs);
      read_pack(args.noise + (sample * args.drawn + drawn) * pixels + pixel, packs, 2, noise);
      const float tau = args.tau[args.tau_batch == 1 ? 0 : sample];
      for (int i = 0; i < 2; ++i) values[i] = drawn_value(mean[i], logs[i], tau, noise[i], args.bound);
    }
    write_pack(values, packs, 2, args.out + (sample * (args.kept + args.drawn) + channel) * pixels + pixel);
  }
}

}  // namespace srflow

#endif  // SRFLOW_CUDA_UNSQUEEZE_SPLIT_CUH_
