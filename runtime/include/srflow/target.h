// What the other headers need from the compiler: SRFLOW_HD, bits of numbers, half precision.
//
// C++17 with GCC or Clang, and CUDA C++17; no dependencies. Functions are always inlined: a source may be compiled
// several times for different instruction sets, and the linker would keep only one build of an inline function.
#ifndef SRFLOW_TARGET_H_
#define SRFLOW_TARGET_H_

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#define SRFLOW_HD __host__ __device__ __forceinline__
#else
#define SRFLOW_HD inline __attribute__((always_inline))
#endif

namespace srflow {

template <typename To, typename From>
SRFLOW_HD To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "a bit pattern keeps its size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// A float16 in memory (IEEE-754 binary16; the layout of __half and of ONNX's float16). It can only be widened, exactly.
struct Half {
  std::uint16_t bits;

  SRFLOW_HD operator float() const {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(bits));
#else
    // No branch, so that loops vectorise, and no subnormal floats, which flush-to-zero modes would lose.
    const std::uint32_t magnitude = static_cast<std::uint32_t>(bits & 0x7fffu) << 13;
    const std::uint32_t special = magnitude >= 0x0f800000u ? 0x38000000u : 0u;  // infinity and NaN: exponent 255
    const float normal = bits_as<float>(magnitude + 0x38000000u + special);
    const float subnormal = bits_as<float>(magnitude + 0x38800000u) - bits_as<float>(std::uint32_t{0x38800000u});
    const std::uint32_t widened = bits_as<std::uint32_t>(magnitude < 0x00800000u ? subnormal : normal);
    return bits_as<float>(widened | (static_cast<std::uint32_t>(bits & 0x8000u) << 16));
#endif
  }
};
static_assert(sizeof(Half) == 2, "Half is read directly from memory");

}  // namespace srflow

#endif  // SRFLOW_TARGET_H_
