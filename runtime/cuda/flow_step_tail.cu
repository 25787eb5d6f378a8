#include <cuda_runtime.h>

#include <climits>

#include "flow_step_tail.cuh"
#include "srflow/cuda_kernels.h"
#include "srflow/sizes.h"

namespace srflow {
namespace {

constexpr std::size_t kSharedBytesWithoutAsking = 48 * 1024;

bool is_aligned(const void* pointer, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

template <typename T>
bool is_valid(const FlowStepTailArgs<T>& args) {
  return args.channels >= 1 && (args.conditioning_batch == 1 || args.conditioning_batch == args.batch) &&
         args.begin >= 0 && args.conditioning_channels >= args.channels &&
         args.begin <= args.conditioning_channels - args.channels && sizes_fit({args.channels, args.channels}) &&
         sizes_fit({args.batch, args.channels, 2, args.pixels}) &&
         is_aligned(args.h_a, sizeof(Pack<Half, 4>)) &&
         sizes_fit({args.conditioning_batch, args.conditioning_channels, args.pixels});
}

template <int columns, typename T>
bool reads_packs(const FlowStepTailArgs<T>& args) {
  return args.pixels % columns == 0 && is_aligned(args.h, columns * sizeof(float)) &&
         is_aligned(args.out, columns * sizeof(float)) &&
         (args.channels_last || is_aligned(args.head, columns * sizeof(T))) &&
         is_aligned(args.injector_scale, columns * sizeof(T)) && is_aligned(args.injector_shift, columns * sizeof(T));
}

template <int rows, int columns, typename T>
cudaError_t launch(const FlowStepTailArgs<T>& args, ScaleMap scale_map, AffineOrder order, cudaStream_t stream) {
  const auto tile = FlowStepTile<rows, columns>::of(args.channels);
  const std::int64_t blocks = (args.pixels + tile.pixels - 1) / tile.pixels * args.batch;
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT_MAX || tile.shared_bytes > INT_MAX) return cudaErrorInvalidValue;
  const auto kernel = flow_step_tail_kernel<rows, columns, T>;
  if (tile.shared_bytes > kSharedBytesWithoutAsking) {
    const cudaError_t refused = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     static_cast<int>(tile.shared_bytes));
    if (refused != cudaSuccess) return static_cast<void>(cudaGetLastError()), refused;  // more than this GPU has
  }
  kernel<<<static_cast<unsigned>(blocks), kWarps * kLanes, tile.shared_bytes, stream>>>(args, tile, scale_map, order,
                                                                                        reads_packs<columns>(args));
  return cudaGetLastError();
}

}  // namespace

template <typename T>
int launch_flow_step_tail(const FlowStepTailArgs<T>& args, ScaleMap scale_map, AffineOrder order, void* stream) {
  if (!is_valid(args)) return cudaErrorInvalidValue;
  // Two tile shapes, for up to 96 channels and for more; a thread has 24 sums in both.
  const auto on = static_cast<cudaStream_t>(stream);
  return args.channels <= 12 * kWarps ? launch<12, 2>(args, scale_map, order, on)
                                      : launch<24, 1>(args, scale_map, order, on);
}

const char* cuda_error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

template int launch_flow_step_tail(const FlowStepTailArgs<float>&, ScaleMap, AffineOrder, void*);
template int launch_flow_step_tail(const FlowStepTailArgs<Half>&, ScaleMap, AffineOrder, void*);

}  // namespace srflow
