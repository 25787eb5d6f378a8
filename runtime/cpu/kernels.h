// The flow op on the CPU: threaded by the caller's pool, vectorised for the processor that they run on.
#ifndef SRFLOW_CPU_KERNELS_H_
#define SRFLOW_CPU_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "srflow/flow_ops.h"

namespace srflow::cpu {

// A stretch of one sample's pixels: begin … begin + count − 1.
struct PixelBlock {
  std::int64_t sample, begin, count;
};

// The kernel as compiled for one instruction set. `x` has room for channels · block_stride(count) floats and is
// 64-byte aligned.
struct BlockKernels {
  const char* name;
  void (*tail)(const FlowStepTailArgs<float>&, ScaleMap, AffineOrder, const PixelBlock&, float* x);
  void (*tail_half)(const FlowStepTailArgs<Half>&, ScaleMap, AffineOrder, const PixelBlock&, float* x);
};

// Blocks are processed in whole tiles of pixels, a multiple of every instruction set's vectors.
constexpr std::int64_t kTile = 32;
constexpr std::int64_t block_stride(std::int64_t count) { return (count + kTile - 1) / kTile * kTile; }

// All builds that run on this processor, fastest first. The last one runs everywhere.
std::vector<const BlockKernels*> supported_kernels();

// How work is distributed: run() calls task(data, index) for indices 0 … count − 1, in any order and any number of
// threads, and returns when all are done. serial() calls them one after another.
struct ParallelFor {
  void (*run)(void* pool, void (*task)(void* data, std::size_t index), std::size_t count, void* data);
  void* pool;

  static ParallelFor serial();
};

// The op, for arguments that the caller has checked. T: float or Half. `out` may be `h`.
template <typename T>
void flow_step_tail(const FlowStepTailArgs<T>& args, ScaleMap scale_map, AffineOrder order, const ParallelFor& parallel,
                    const BlockKernels& kernels = *supported_kernels().front());

}  // namespace srflow::cpu

#endif  // SRFLOW_CPU_KERNELS_H_
