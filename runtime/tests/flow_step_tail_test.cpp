#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "cpu/kernels.h"
#include "tensors.h"

namespace srflow {
namespace {

using cpu::BlockKernels;
using cpu::ParallelFor;

constexpr ScaleMap kScaleMaps[] = {ScaleMap::kExp, ScaleMap::kSigmoid, ScaleMap::kTanh};
constexpr AffineOrder kOrders[] = {AffineOrder::kScaleFirst, AffineOrder::kShiftFirst};

template <typename T>
struct Case {
  std::int64_t batch, channels, pixels, conditioning_batch, conditioning_channels, begin;
  float clamp = 1.5f;
  std::vector<float> h, weight, bias;
  std::vector<T> head, scale, shift;

  Case(tests::Random& random, std::int64_t batch_, std::int64_t channels_, std::int64_t pixels_, bool one_condition,
       double spread = 1.0)
      : batch(batch_), channels(channels_), pixels(pixels_), conditioning_batch(one_condition ? 1 : batch_) {
    const std::int64_t steps = random.integer(1, 3);
    conditioning_channels = steps * channels;
    begin = random.integer(0, steps - 1) * channels;
    h = random.normal<float>(batch * channels * pixels);
    head = random.normal<T>(batch * 2 * (channels - channels / 2) * pixels, spread);
    scale = random.normal<T>(conditioning_batch * conditioning_channels * pixels, spread);
    shift = random.normal<T>(conditioning_batch * conditioning_channels * pixels, spread);
    weight = random.normal<float>(channels * channels);
    bias = random.normal<float>(channels);
  }

  FlowStepTailArgs<T> args(float* out) const {
    return {h.data(),    head.data(), scale.data(), shift.data(),       weight.data(),         bias.data(), out, batch,
            channels,    pixels,      conditioning_batch, conditioning_channels, begin,        clamp};
  }

  std::vector<float> run(ScaleMap map, AffineOrder order, const BlockKernels& kernels,
                         const ParallelFor& parallel = ParallelFor::serial()) const {
    std::vector<float> out(h.size(), std::numeric_limits<float>::quiet_NaN());
    cpu::flow_step_tail(args(out.data()), map, order, parallel, kernels);
    return out;
  }
};

double inverse_scale_in_double(ScaleMap map, double s, double clamp) {
  if (map == ScaleMap::kExp) return std::exp(-s);
  if (map == ScaleMap::kSigmoid) return 1.0 / (1.0 / (1.0 + std::exp(-(s + 2.0))) + 1e-4);
  return std::exp(-clamp * std::tanh(s / clamp));
}

// The op's definition again, in double; compares with a tolerance relative to the size of the numbers.
template <typename T>
void expect_definition(const Case<T>& c, ScaleMap map, AffineOrder order, const std::vector<float>& out) {
  const std::int64_t kept = c.channels / 2, changed = c.channels - kept;
  std::vector<double> x(c.channels), size(c.channels);
  for (std::int64_t n = 0; n < c.batch; ++n) {
    for (std::int64_t p = 0; p < c.pixels; ++p) {
      for (std::int64_t i = 0; i < c.channels; ++i) {
        double value = c.h[(n * c.channels + i) * c.pixels + p], magnitude = std::fabs(value);
        if (i >= kept) {
          const double shift = tests::value_of(c.head[(n * 2 * changed + i - kept) * c.pixels + p]);
          const double s = tests::value_of(c.head[(n * 2 * changed + changed + i - kept) * c.pixels + p]);
          const double m = inverse_scale_in_double(map, s, c.clamp);
          value = order == AffineOrder::kScaleFirst ? (value - shift) * m : value * m - shift;
          magnitude = magnitude * m + std::fabs(shift) * (order == AffineOrder::kScaleFirst ? m : 1.0);
        }
        const std::int64_t condition = c.conditioning_batch == 1 ? 0 : n;
        const std::int64_t at = (condition * c.conditioning_channels + c.begin + i) * c.pixels + p;
        x[i] = value * tests::value_of(c.scale[at]) + tests::value_of(c.shift[at]);
        size[i] = magnitude * std::fabs(tests::value_of(c.scale[at])) + std::fabs(tests::value_of(c.shift[at]));
      }
      for (std::int64_t o = 0; o < c.channels; ++o) {
        double sum = c.bias[o], magnitude = std::fabs(sum);
        for (std::int64_t i = 0; i < c.channels; ++i) {
          sum += c.weight[o * c.channels + i] * x[i];
          magnitude += std::fabs(c.weight[o * c.channels + i]) * size[i];
        }
        ASSERT_NEAR(out[(n * c.channels + o) * c.pixels + p], sum, 2e-6 * magnitude)
            << "sample " << n << ", channel " << o << " of " << c.channels << ", pixel " << p << " of " << c.pixels;
      }
    }
  }
}

template <typename T>
class FlowStepTail : public testing::Test {};
using Conditionings = testing::Types<float, Half>;
TYPED_TEST_SUITE(FlowStepTail, Conditionings);

TYPED_TEST(FlowStepTail, IsItsDefinitionForRandomShapes) {
  tests::Random random(1);
  for (const BlockKernels* kernels : cpu::supported_kernels()) {
    SCOPED_TRACE(kernels->name);
    for (const ScaleMap map : kScaleMaps) {
      for (const AffineOrder order : kOrders) {
        for (const bool one_condition : {true, false}) {
          const Case<TypeParam> c(random, random.integer(1, 3), random.integer(2, 26), random.integer(1, 700),
                                  one_condition);
          expect_definition(c, map, order, c.run(map, order, *kernels));
        }
      }
    }
  }
}

TYPED_TEST(FlowStepTail, TakesTheChannelsOfAllScales) {
  tests::Random random(2);
  for (const BlockKernels* kernels : cpu::supported_kernels()) {
    SCOPED_TRACE(kernels->name);
    for (const std::int64_t channels : {1, 3, 12, 96, 192, 300}) {  // 300 do not fit the scratch on the stack
      const Case<TypeParam> c(random, 1, channels, 33, true);
      expect_definition(c, ScaleMap::kTanh, AffineOrder::kScaleFirst,
                        c.run(ScaleMap::kTanh, AffineOrder::kScaleFirst, *kernels));
    }
  }
}

TYPED_TEST(FlowStepTail, ExtremeScalesAreTheDefinitionToo) {
  tests::Random random(3);
  for (const BlockKernels* kernels : cpu::supported_kernels()) {
    SCOPED_TRACE(kernels->name);
    for (const ScaleMap map : kScaleMaps) {
      const Case<TypeParam> c(random, 2, 12, 97, false, 12.0);  // s to about 50: e^50 is within float32
      expect_definition(c, map, AffineOrder::kScaleFirst, c.run(map, AffineOrder::kScaleFirst, *kernels));
    }
  }
}

TYPED_TEST(FlowStepTail, OverflowsWhereTheReferenceDoes) {
  tests::Random random(4);
  for (const BlockKernels* kernels : cpu::supported_kernels()) {
    SCOPED_TRACE(kernels->name);
    const Case<TypeParam> c(random, 1, 6, 400, true, 60.0);
    const std::vector<float> out = c.run(ScaleMap::kExp, AffineOrder::kShiftFirst, *kernels);
    std::vector<float> expected(out.size()), x(c.channels);
    for (std::int64_t p = 0; p < c.pixels; ++p)
      flow_step_tail_pixel<ScaleMap::kExp, AffineOrder::kShiftFirst>(c.args(expected.data()), 0, p, x.data());
    int overflows = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      overflows += !std::isfinite(expected[i]);
      ASSERT_EQ(std::isnan(out[i]), std::isnan(expected[i])) << i;
      ASSERT_EQ(std::isinf(out[i]), std::isinf(expected[i])) << i;
    }
    EXPECT_GT(overflows, 10);
  }
}

TYPED_TEST(FlowStepTail, MayWriteOverItsInput) {
  tests::Random random(5);
  for (const BlockKernels* kernels : cpu::supported_kernels()) {
    Case<TypeParam> c(random, 2, 24, 1111, true);
    const std::vector<float> apart = c.run(ScaleMap::kSigmoid, AffineOrder::kScaleFirst, *kernels);
    cpu::flow_step_tail(c.args(c.h.data()), ScaleMap::kSigmoid, AffineOrder::kScaleFirst, ParallelFor::serial(),
                        *kernels);
    EXPECT_EQ(c.h, apart) << kernels->name;
  }
}

TEST(FlowStepTailThreads, AnyOrderOfBlocksGivesTheSameBits) {
  tests::Random random(6);
  const Case<float> c(random, 3, 12, 3000, true);
  const ParallelFor threaded{[](void*, void (*task)(void*, std::size_t), std::size_t count, void* data) {
                               std::vector<std::thread> threads;
                               for (std::size_t first = 0; first < 4; ++first) {
                                 threads.emplace_back([=] {
                                   for (std::size_t i = first; i < count; i += 4) task(data, count - 1 - i);
                                 });
                               }
                               for (std::thread& thread : threads) thread.join();
                             },
                             nullptr};
  const BlockKernels& kernels = *cpu::supported_kernels().front();
  EXPECT_EQ(c.run(ScaleMap::kExp, AffineOrder::kScaleFirst, kernels, threaded),
            c.run(ScaleMap::kExp, AffineOrder::kScaleFirst, kernels));
}

TEST(FlowStepTailThreads, NothingIsDoneForNoPixels) {
  tests::Random random(7);
  const Case<float> c(random, 2, 12, 0, true);
  EXPECT_TRUE(c.run(ScaleMap::kExp, AffineOrder::kScaleFirst, *cpu::supported_kernels().front()).empty());
}

TEST(Attributes, AreReadAsTheGraphSpellsThem) {
  ScaleMap map = ScaleMap::kExp;
  AffineOrder order = AffineOrder::kScaleFirst;
  EXPECT_TRUE(parse_scale_map("tanh", &map));
  EXPECT_EQ(map, ScaleMap::kTanh);
  EXPECT_TRUE(parse_scale_map("sigmoid", &map));
  EXPECT_EQ(map, ScaleMap::kSigmoid);
  EXPECT_TRUE(parse_scale_map("exp", &map));
  EXPECT_EQ(map, ScaleMap::kExp);
  EXPECT_TRUE(parse_order("shift_first", &order));
  EXPECT_EQ(order, AffineOrder::kShiftFirst);
  EXPECT_TRUE(parse_order("scale_first", &order));
  EXPECT_EQ(order, AffineOrder::kScaleFirst);
  EXPECT_FALSE(parse_scale_map("softplus", &map));
  EXPECT_FALSE(parse_order("", &order));
}

}  // namespace
}  // namespace srflow
