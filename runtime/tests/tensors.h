// Random tensors for the tests, always the same.
#ifndef SRFLOW_TESTS_TENSORS_H_
#define SRFLOW_TESTS_TENSORS_H_

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "srflow/flow_ops.h"

namespace srflow::tests {

// The value of a float16, by its definition.
inline double value_of(Half half) {
  const double sign = half.bits & 0x8000 ? -1.0 : 1.0;
  const int exponent = half.bits >> 10 & 31, fraction = half.bits & 1023;
  if (exponent == 31) return fraction ? std::nan("") : sign * HUGE_VAL;
  return exponent ? sign * std::ldexp(1024 + fraction, exponent - 25) : sign * std::ldexp(fraction, -24);
}
inline double value_of(float value) { return value; }

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  std::int64_t integer(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
  }
  template <typename T>
  std::vector<T> normal(std::int64_t count, double scale = 1.0) {
    std::normal_distribution<double> distribution(0.0, scale);
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& value : values) value = number(distribution(engine_), T{});
    return values;
  }

 private:
  static float number(double value, float) { return static_cast<float>(value); }
  // Rounded towards zero, which is random enough; magnitudes below 2^-14 become 0.
  static Half number(double value, Half) {
    int exponent;
    const double fraction = std::frexp(std::fabs(value), &exponent);
    if (exponent < -13) return {0};
    if (exponent > 15) return {static_cast<std::uint16_t>(value < 0 ? 0xfbff : 0x7bff)};
    const int bits = (exponent + 14) << 10 | (static_cast<int>(fraction * 2048) & 1023);
    return {static_cast<std::uint16_t>(bits | (value < 0 ? 0x8000 : 0))};
  }

  std::mt19937 engine_;
};

}  // namespace srflow::tests

#endif  // SRFLOW_TESTS_TENSORS_H_
