#include <cuda_runtime.h>

#include <algorithm>
#include <climits>

#include "srflow/cuda_kernels.h"
#include "srflow/sizes.h"
#include "unsqueeze_split.cuh"

namespace srflow {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxGridYZ = 65535;

template <typename T>
bool is_valid(const UnsqueezeSplitArgs<T>& args) {
  return args.kept >= 0 && args.drawn >= 0 && args.kept <= kMaxGridYZ && args.drawn <= kMaxGridYZ - args.kept &&
         args.height % 2 == 0 && args.width % 2 == 0 && (args.tau_batch == 1 || args.tau_batch == args.batch) &&
         sizes_fit({args.batch, args.kept + 2 * args.drawn, args.height, args.width});
}

template <typename T>
bool reads_packs(const UnsqueezeSplitArgs<T>& args) {
  const auto aligned = [](const void* pointer, std::size_t bytes) {
    return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
  };
  return (args.channels_last || aligned(args.head, 2 * sizeof(T))) && aligned(args.noise, 2 * sizeof(float)) &&
         aligned(args.out, 2 * sizeof(float));
}

}  // namespace

template <typename T>
int launch_unsqueeze_split(const UnsqueezeSplitArgs<T>& args, void* stream) {
  if (!is_valid(args)) return cudaErrorInvalidValue;
  const std::int64_t pairs = args.height * (args.width / 2), blocks = (pairs + kThreads - 1) / kThreads;
  if (blocks == 0 || args.batch == 0 || args.kept + args.drawn == 0) return cudaSuccess;
  if (blocks > INT_MAX) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(args.kept + args.drawn),
                  static_cast<unsigned>(std::min(args.batch, kMaxGridYZ)));
  unsqueeze_split_kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args, reads_packs(args));
  return cudaGetLastError();
}

template int launch_unsqueeze_split(const UnsqueezeSplitArgs<float>&, void*);
template int launch_unsqueeze_split(const UnsqueezeSplitArgs<Half>&, void*);

}  // namespace srflow
