#include "srflow/functions.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tensors.h"

namespace srflow {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNaN = std::nanf("");

// Distance in units in the last place of the true value; for subnormal results, in units of the smallest number.
double distance(float value, double truth) {
  int exponent;
  std::frexp(truth, &exponent);
  return std::fabs(value - truth) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

template <typename Function>
double largest_distance(float function(float), Function truth, float low, float high) {
  double largest = 0.0;
  constexpr int kCount = 300007;
  for (int i = 0; i < kCount; ++i) {
    const float x = low + (high - low) * static_cast<float>(i) / kCount;
    largest = std::max(largest, distance(function(x), truth(static_cast<double>(x))));
  }
  return largest;
}

float exp_of(float x) { return exp_float(x); }
float tanh_of(float x) { return tanh_float(x); }
double exp_truth(double x) { return std::exp(x); }
double tanh_truth(double x) { return std::tanh(x); }

TEST(Exp, IsWithinTwoUnitsInTheLastPlace) {
  EXPECT_LE(largest_distance(exp_of, exp_truth, -103.9f, 88.7f), 2.0);
  EXPECT_LE(largest_distance(exp_of, exp_truth, -1.0f, 1.0f), 2.0);
  EXPECT_EQ(exp_float(0.0f), 1.0f);
}

TEST(Exp, OverflowsToInfinityAndUnderflowsToZero) {
  EXPECT_EQ(exp_float(88.8f), kInfinity);
  EXPECT_EQ(exp_float(1e30f), kInfinity);
  EXPECT_EQ(exp_float(kInfinity), kInfinity);
  EXPECT_EQ(exp_float(-105.0f), 0.0f);
  EXPECT_EQ(exp_float(-kInfinity), 0.0f);
  EXPECT_GT(exp_float(-100.0f), 0.0f);
  EXPECT_TRUE(std::isnan(exp_float(kNaN)));
  EXPECT_TRUE(std::isnan(exp_float(-kNaN)));
}

TEST(Tanh, IsWithinTwoUnitsInTheLastPlaceAndSaturates) {
  EXPECT_LE(largest_distance(tanh_of, tanh_truth, -12.0f, 12.0f), 2.0);
  EXPECT_LE(largest_distance(tanh_of, tanh_truth, -1e-3f, 1e-3f), 2.0);
  EXPECT_EQ(tanh_float(0.0f), 0.0f);
  EXPECT_EQ(tanh_float(kInfinity), 1.0f);
  EXPECT_EQ(tanh_float(-kInfinity), -1.0f);
  EXPECT_TRUE(std::isnan(tanh_float(kNaN)));
}

TEST(Half, EveryPatternWidensExactly) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    const double truth = tests::value_of(half);
    if (std::isnan(truth)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(half))) << bits;
    } else {
      EXPECT_EQ(static_cast<float>(half), truth) << bits;
      EXPECT_EQ(std::signbit(static_cast<float>(half)), (bits & 0x8000) != 0) << bits;
    }
  }
}

// Between neighbours a and b: their middle becomes the even one, and what is nearer to one of them that one.
TEST(Half, IsTheNearestOneAfterNarrowing) {
  for (std::uint16_t sign : {0, 0x8000}) {
    for (std::uint16_t bits = 0; bits < 0x7c00; ++bits) {
      const std::uint16_t a = sign | bits, b = sign | (bits + 1);
      const float low = Half{a};
      const float high = bits == 0x7bff ? std::copysign(65536.0f, low) : static_cast<float>(Half{b});
      const float middle = low + (high - low) / 2;
      EXPECT_EQ(narrowed(low).bits, a);
      EXPECT_EQ(narrowed(middle).bits, bits % 2 ? b : a) << bits;
      EXPECT_EQ(narrowed(std::nextafter(middle, low)).bits, a) << bits;
      EXPECT_EQ(narrowed(std::nextafter(middle, high)).bits, b) << bits;
    }
    EXPECT_EQ(narrowed(std::copysign(kInfinity, sign ? -1.0f : 1.0f)).bits, sign | 0x7c00);
  }
  EXPECT_TRUE(std::isnan(static_cast<float>(narrowed(kNaN))));
}

}  // namespace
}  // namespace srflow
