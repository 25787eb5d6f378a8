#include "cpu/kernels.h"

#include <algorithm>
#include <memory>

namespace srflow::cpu {

namespace portable {
extern const BlockKernels kernels;
}
#if defined(SRFLOW_X86_VARIANTS)
namespace avx2 {
extern const BlockKernels kernels;
}
namespace avx512 {
extern const BlockKernels kernels;
}
#endif

std::vector<const BlockKernels*> supported_kernels() {
  static const std::vector<const BlockKernels*> supported = [] {
    std::vector<const BlockKernels*> found;
#if defined(SRFLOW_X86_VARIANTS)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
      found.push_back(&avx512::kernels);
    if (avx2) found.push_back(&avx2::kernels);
#endif
    found.push_back(&portable::kernels);
    return found;
  }();
  return supported;
}

namespace {

constexpr std::int64_t kScratchFloats = 16384;  // 64 kB: a block's mixing input stays in the second-level cache
constexpr std::int64_t kSmallestBlock = 64;     // pixels; shorter runs touch too many pages of memory for their size
constexpr std::int64_t kLargestBlock = 512;

// Pixels in a block of FlowStepTail.
std::int64_t block_pixels(std::int64_t channels) {
  const std::int64_t fitting = kScratchFloats / channels / kTile * kTile;
  return std::clamp(fitting, kSmallestBlock, kLargestBlock);
}

// Calls work(0) … work(count − 1) through the pool.
template <typename Work>
void for_each(const ParallelFor& parallel, std::int64_t count, const Work& work) {
  const auto task = [](void* data, std::size_t index) {
    (*static_cast<const Work*>(data))(static_cast<std::int64_t>(index));
  };
  if (count > 0) parallel.run(parallel.pool, task, static_cast<std::size_t>(count), const_cast<Work*>(&work));
}

auto tail_kernel(const BlockKernels& kernels, const FlowStepTailArgs<float>&) { return kernels.tail; }
auto tail_kernel(const BlockKernels& kernels, const FlowStepTailArgs<Half>&) { return kernels.tail_half; }

}  // namespace

ParallelFor ParallelFor::serial() {
  return {[](void*, void (*task)(void*, std::size_t), std::size_t count, void* data) {
            for (std::size_t index = 0; index < count; ++index) task(data, index);
          },
          nullptr};
}

template <typename T>
void flow_step_tail(const FlowStepTailArgs<T>& args, ScaleMap scale_map, AffineOrder order, const ParallelFor& parallel,
                    const BlockKernels& kernels) {
  const std::int64_t size = block_pixels(args.channels), blocks = (args.pixels + size - 1) / size;
  const auto kernel = tail_kernel(kernels, args);
  for_each(parallel, args.batch * blocks, [&](std::int64_t index) {
    const std::int64_t begin = index % blocks * size;
    const PixelBlock block{index / blocks, begin, std::min(size, args.pixels - begin)};
    alignas(64) float on_stack[kScratchFloats];
    if (args.channels * size <= kScratchFloats) return kernel(args, scale_map, order, block, on_stack);
    const std::unique_ptr<float[]> on_heap(new float[static_cast<std::size_t>(args.channels * size)]);
    kernel(args, scale_map, order, block, on_heap.get());
  });
}

template void flow_step_tail(const FlowStepTailArgs<float>&, ScaleMap, AffineOrder, const ParallelFor&,
                             const BlockKernels&);
template void flow_step_tail(const FlowStepTailArgs<Half>&, ScaleMap, AffineOrder, const ParallelFor&,
                             const BlockKernels&);

}  // namespace srflow::cpu
