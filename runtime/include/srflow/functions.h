// exp and tanh in float32, and rounding to float16, for host and device.
//
// On the host they are polynomials without branches and calls, so that a loop over them vectorises without -ffast-math.
// exp and tanh are within 2 units in the last place, exact at 0, and correct at infinities and NaN. On a GPU all are
// CUDA's own.
#ifndef SRFLOW_FUNCTIONS_H_
#define SRFLOW_FUNCTIONS_H_

#include "srflow/target.h"

namespace srflow {

// 2^n for n in [-126, 127].
SRFLOW_HD float power_of_two(std::int32_t n) {
  return bits_as<float>(static_cast<std::uint32_t>(n + 127) << 23);
}

// e^x. Overflow gives infinity, underflow is gradual.
SRFLOW_HD float exp_float(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  // Outside [-104, 89] the result is 0 or infinity anyway. These comparisons let NaN through.
  const float not_below = x < -104.0f ? -104.0f : x;
  const float clamped = not_below > 89.0f ? 89.0f : not_below;
  // x = n·log(2) + r, |r| <= log(2)/2. Adding 1.5·2^23 rounds to an integer and leaves it in the sum's low bits.
  const float shifted = clamped * 1.44269504f + 12582912.0f;
  const std::int32_t n = bits_as<std::int32_t>(shifted) - 0x4b400000;
  const float whole = shifted - 12582912.0f;
  // log(2) in two parts; the first has so few bits that its multiples here are exact.
  const float r = (clamped - whole * 0.693359375f) - whole * -2.12194440e-4f;
  float tail = 1.98412698e-4f;  // 1/7!; the next term is below a tenth of the last place
  tail = tail * r + 1.38888889e-3f;
  tail = tail * r + 8.33333333e-3f;
  tail = tail * r + 4.16666667e-2f;
  tail = tail * r + 1.66666667e-1f;
  tail = tail * r + 0.5f;
  const float fraction = 1.0f + (r + r * r * tail);
  const std::int32_t half = n >> 1;  // 2^n alone may be out of range
  return fraction * power_of_two(half) * power_of_two(n - half);
#endif
}

// The hyperbolic tangent.
SRFLOW_HD float tanh_float(float x) {
#if defined(__CUDA_ARCH__)
  return tanhf(x);
#else
  const float magnitude = x < 0.0f ? -x : x;
  const float far = 1.0f - 2.0f / (exp_float(2.0f * magnitude) + 1.0f);
  const float t = x * x;  // near 0 the difference above cancels; odd polynomial, fitted to 7e-9 on [0, 0.65]
  float tail = -0.00552863115f;
  tail = tail * t + 0.0204833131f;
  tail = tail * t - 0.0536929667f;
  tail = tail * t + 0.133308992f;
  tail = tail * t - 0.333332628f;
  const float near = x + x * t * tail;
  return magnitude < 0.625f ? near : (x < 0.0f ? -far : far);
#endif
}

// The nearest float16, of two the even one; beyond 65504 infinity, as a Cast of ONNX does it.
SRFLOW_HD Half narrowed(float x) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(x))};
#else
  const std::uint32_t bits = bits_as<std::uint32_t>(x), magnitude = bits & 0x7fffffffu;
  // Below 2^-14 the addition rounds to the steps of float16's subnormal numbers, which are those of floats from 0.5 on.
  std::uint32_t half = bits_as<std::uint32_t>(bits_as<float>(magnitude) + 0.5f) - 0x3f000000u;
  if (magnitude >= 0x38800000u) half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  if (magnitude >= 0x477ff000u) half = magnitude > 0x7f800000u ? 0x7fffu : 0x7c00u;
  return {static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | half)};
#endif
}

}  // namespace srflow

#endif  // SRFLOW_FUNCTIONS_H_
