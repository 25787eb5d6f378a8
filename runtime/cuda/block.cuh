// What the kernels use from CUDA besides threadIdx, blockIdx, blockDim and __syncthreads().
//
// tests/host_grid.h provides the same on the host, so that indexing and synchronisation of kernels are tested without a
// GPU. Therefore kernels use only these names and C++17.
#ifndef SRFLOW_CUDA_BLOCK_CUH_
#define SRFLOW_CUDA_BLOCK_CUH_

#include "srflow/target.h"

namespace srflow {

constexpr int kLanes = 32;  // threads in a warp

#if defined(__CUDACC__)
// The memory that a block's threads share, of the size that the launch requested; 16-byte aligned.
__device__ __forceinline__ float* shared_memory() {
  extern __shared__ float4 srflow_shared_memory[];
  return reinterpret_cast<float*>(srflow_shared_memory);
}
#endif

// a / b for non-negative numbers. A GPU takes about a hundred instructions to divide 64-bit integers, which would be
// most of a thread's work here; sizes nearly always fit 32 bits.
SRFLOW_HD std::int64_t quotient(std::int64_t a, std::int64_t b) {
  const bool short_ones = ((a | b) >> 32) == 0;
  return short_ones ? static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b) : a / b;
}

// `count` neighbouring numbers that are moved at once: aligned to their total size, which must be a power of two.
template <typename T, int count>
struct alignas(sizeof(T) * count) Pack {
  T values[count];
};

// Neighbouring numbers, widened to float32. whole: all of them exist and `from` is aligned to their size; otherwise the
// first `left` exist and the others read as 0.
template <int count, typename T>
SRFLOW_HD void read_pack(const T* from, bool whole, std::int64_t left, float (&to)[count]) {
  if (whole) {
    const Pack<T, count> pack = *reinterpret_cast<const Pack<T, count>*>(from);
    for (int i = 0; i < count; ++i) to[i] = static_cast<float>(pack.values[i]);
  } else {
    for (int i = 0; i < count; ++i) to[i] = i < left ? static_cast<float>(from[i]) : 0.0f;
  }
}

// The reverse of read_pack for float32.
template <int count>
SRFLOW_HD void write_pack(const float (&from)[count], bool whole, std::int64_t left, float* to) {
  if (whole) {
    Pack<float, count> pack;
    for (int i = 0; i < count; ++i) pack.values[i] = from[i];
    *reinterpret_cast<Pack<float, count>*>(to) = pack;
  } else {
    for (int i = 0; i < count; ++i) {
      if (i < left) to[i] = from[i];
    }
  }
}

}  // namespace srflow

#endif  // SRFLOW_CUDA_BLOCK_CUH_
