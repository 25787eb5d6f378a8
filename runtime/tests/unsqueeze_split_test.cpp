#include <gtest/gtest.h>

#include <cmath>

#include "cpu/kernels.h"
#include "tensors.h"

namespace srflow {
namespace {

using cpu::BlockKernels;
using cpu::ParallelFor;

template <typename T>
struct Case {
  std::int64_t batch, kept, drawn, height, width, tau_batch;
  std::vector<float> h, noise, tau;
  std::vector<T> head;

  Case(tests::Random& random, std::int64_t batch_, std::int64_t kept_, std::int64_t drawn_, std::int64_t height_,
       std::int64_t width_, bool one_tau, double spread = 1.0)
      : batch(batch_), kept(kept_), drawn(drawn_), height(height_), width(width_), tau_batch(one_tau ? 1 : batch_) {
    const std::int64_t pixels = height * width;
    h = random.normal<float>(batch * kept * pixels);
    head = random.normal<T>(batch * 2 * drawn * pixels, spread);
    noise = random.normal<float>(batch * drawn * pixels);
    tau = random.normal<float>(tau_batch);
  }

  std::vector<float> run(float bound, const BlockKernels& kernels) const {
    std::vector<float> out(batch * (kept + drawn) * height * width, std::nanf(""));
    const UnsqueezeSplitArgs<T> args{h.data(), head.data(), noise.data(), tau.data(), out.data(), batch,
                                     kept,     drawn,       height,       width,      tau_batch,  bound};
    cpu::unsqueeze_split(args, ParallelFor::serial(), kernels);
    return out;
  }
};

// The op's definition again, in double.
template <typename T>
void expect_definition(const Case<T>& c, float bound, const std::vector<float>& out) {
  std::size_t at = 0;
  const std::int64_t pixels = c.height * c.width;
  for (std::int64_t n = 0; n < c.batch; ++n) {
    for (std::int64_t channel = 0; channel < c.kept + c.drawn; ++channel) {
      for (std::int64_t p = 0; p < pixels; ++p, ++at) {
        const std::int64_t y = p / c.width, x = p % c.width;
        if (channel < c.kept) {
          const std::int64_t squeezed = n * 4 * c.kept + 4 * channel + 2 * (y % 2) + x % 2;
          ASSERT_EQ(out[at], c.h[(squeezed * (c.height / 2) + y / 2) * (c.width / 2) + x / 2]);
          continue;
        }
        const std::int64_t drawn = channel - c.kept;
        const double mean = tests::value_of(c.head[(n * 2 * c.drawn + drawn) * pixels + p]);
        double logs = tests::value_of(c.head[(n * 2 * c.drawn + c.drawn + drawn) * pixels + p]);
        if (bound != 0.0f) logs = bound * std::tanh(logs / bound);
        const double tau = c.tau[c.tau_batch == 1 ? 0 : n];
        const double added = std::exp(logs) * tau * c.noise[(n * c.drawn + drawn) * pixels + p];
        ASSERT_NEAR(out[at], mean + added, 2e-6 * (std::fabs(mean) + std::fabs(added) * (1 + std::fabs(logs))));
      }
    }
  }
}

template <typename T>
class UnsqueezeSplit : public testing::Test {};
using Conditionings = testing::Types<float, Half>;
TYPED_TEST_SUITE(UnsqueezeSplit, Conditionings);

TYPED_TEST(UnsqueezeSplit, IsItsDefinitionForRandomShapes) {
  tests::Random random(11);
  for (const BlockKernels* kernels : cpu::supported_kernels()) {
    SCOPED_TRACE(kernels->name);
    for (const float bound : {0.0f, 2.0f}) {
      for (const bool one_tau : {true, false}) {
        for (int repeat = 0; repeat < 5; ++repeat) {
          const Case<TypeParam> c(random, random.integer(1, 3), random.integer(1, 7), random.integer(1, 7),
                                  2 * random.integer(1, 12), 2 * random.integer(1, 25), one_tau);
          expect_definition(c, bound, c.run(bound, *kernels));
        }
      }
    }
  }
}

TYPED_TEST(UnsqueezeSplit, TakesRowsLongerThanABand) {
  tests::Random random(12);
  for (const BlockKernels* kernels : cpu::supported_kernels()) {
    const Case<TypeParam> c(random, 1, 1, 1, 4, 9000, true);
    expect_definition(c, 2.0f, c.run(2.0f, *kernels));
  }
}

TYPED_TEST(UnsqueezeSplit, ExtremeLogsAreTheDefinitionToo) {
  tests::Random random(13);
  for (const BlockKernels* kernels : cpu::supported_kernels()) {
    const Case<TypeParam> c(random, 2, 2, 3, 8, 10, true, 15.0);
    expect_definition(c, 0.0f, c.run(0.0f, *kernels));
    expect_definition(c, 2.0f, c.run(2.0f, *kernels));
  }
}

TEST(UnsqueezeSplitEdges, NothingIsDoneForNoPixels) {
  tests::Random random(14);
  const Case<float> no_rows(random, 1, 2, 2, 0, 4, true), no_columns(random, 1, 2, 2, 4, 0, true);
  EXPECT_TRUE(no_rows.run(0.0f, *cpu::supported_kernels().front()).empty());
  EXPECT_TRUE(no_columns.run(0.0f, *cpu::supported_kernels().front()).empty());
}

}  // namespace
}  // namespace srflow
