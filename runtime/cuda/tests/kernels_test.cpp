// The CUDA kernels, thread by thread on the host, against the reference of srflow/flow_ops.h.
#include "host_grid.h"
// After host_grid.h:
#include "../flow_step_tail.cuh"
#include "../drawing.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <type_traits>

#include "srflow/srflow.h"

namespace {

using srflow::AffineOrder;
using srflow::Half;
using srflow::ScaleMap;

template <typename T>
T number(float value);
template <>
float number<float>(float value) {
  return value;
}
// Rounds towards zero, for normal numbers: exact enough for inputs.
template <>
Half number<Half>(float value) {
  const std::uint32_t bits = srflow::bits_as<std::uint32_t>(value);
  const int exponent = static_cast<int>(bits >> 23 & 0xff) - 112;
  const std::uint32_t magnitude = exponent < 1 ? 0 : static_cast<std::uint32_t>(exponent) << 10 | (bits >> 13 & 0x3ff);
  return {static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | magnitude)};
}

template <typename T>
std::vector<T> random_numbers(std::int64_t count, float deviation, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<T> numbers(static_cast<std::size_t>(count));
  for (T& each : numbers) each = number<T>(normal(generator));
  return numbers;
}

// N × C × pixels as N × pixels × C.
template <typename T>
std::vector<T> channels_last(const std::vector<T>& planes, std::int64_t batch, std::int64_t channels,
                             std::int64_t pixels) {
  std::vector<T> moved(planes.size());
  for (std::int64_t sample = 0; sample < batch; ++sample)
    for (std::int64_t channel = 0; channel < channels; ++channel)
      for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
        moved[(sample * pixels + pixel) * channels + channel] = planes[(sample * channels + channel) * pixels + pixel];
  return moved;
}

void expect_near(const std::vector<float>& got, const std::vector<float>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], 1e-4f * (1.0f + std::fabs(expected[i]))) << "element " << i;
}

struct StepCase {
  std::int64_t batch, channels, pixels, conditioning_batch;
  ScaleMap scale_map = ScaleMap::kTanh;
  AffineOrder order = AffineOrder::kShiftFirst;
  bool in_place = false;
  bool channels_last = false;
  bool h_a = false;
};

// Runs kernel and reference, with this step's channels in the middle of the conditioning tensor.
template <int rows, int columns, typename T>
void expect_step_equals_reference(const StepCase& the) {
  const std::int64_t changed = the.channels - the.channels / 2, conditioning_channels = 3 * the.channels;
  const std::int64_t state = the.batch * the.channels * the.pixels;
  const std::int64_t conditioning = the.conditioning_batch * conditioning_channels * the.pixels;
  const auto h = random_numbers<float>(state, 1.0f, 1);
  const auto head = random_numbers<T>(the.batch * 2 * changed * the.pixels, 0.5f, 2);
  const auto scale = random_numbers<T>(conditioning, 1.0f, 3), shift = random_numbers<T>(conditioning, 1.0f, 4);
  const auto weight = random_numbers<float>(the.channels * the.channels, 0.2f, 5);
  const auto bias = random_numbers<float>(the.channels, 1.0f, 6);
  std::vector<float> expected(h.size()), got(h.size(), std::nanf(""));
  srflow::FlowStepTailArgs<T> args{h.data(),    head.data(),    scale.data(), shift.data(),           weight.data(),
                                   bias.data(), expected.data(), the.batch,    the.channels,           the.pixels,
                                   the.conditioning_batch,       conditioning_channels, the.channels, 0.7f};

  std::vector<float> room(static_cast<std::size_t>(the.channels));
  const auto reference = [&](auto map, auto order) {
    for (std::int64_t sample = 0; sample < the.batch; ++sample)
      for (std::int64_t pixel = 0; pixel < the.pixels; ++pixel)
        srflow::flow_step_tail_pixel<decltype(map)::value, decltype(order)::value>(args, sample, pixel, room.data());
  };
  const auto with_map = [&](auto map) {
    if (the.order == AffineOrder::kScaleFirst)
      reference(map, std::integral_constant<AffineOrder, AffineOrder::kScaleFirst>());
    else
      reference(map, std::integral_constant<AffineOrder, AffineOrder::kShiftFirst>());
  };
  if (the.scale_map == ScaleMap::kExp) with_map(std::integral_constant<ScaleMap, ScaleMap::kExp>());
  if (the.scale_map == ScaleMap::kSigmoid) with_map(std::integral_constant<ScaleMap, ScaleMap::kSigmoid>());
  if (the.scale_map == ScaleMap::kTanh) with_map(std::integral_constant<ScaleMap, ScaleMap::kTanh>());

  const auto moved = channels_last(head, the.batch, 2 * changed, the.pixels);
  if (the.channels_last) args.head = moved.data();
  args.channels_last = the.channels_last;
  const auto tile = srflow::FlowStepTile<rows, columns>::of(the.channels);
  const auto tiles = (the.pixels + tile.pixels - 1) / tile.pixels;
  args.out = got.data();
  if (the.in_place) {
    got = h;
    args.h = got.data();
  }
  const std::int64_t kept = the.channels / 2;
  std::vector<Half> h_a(static_cast<std::size_t>(the.batch * the.pixels * kept + 8), Half{0x7fff});
  if (the.h_a) args.h_a = h_a.data();
  srflow::host_grid::run({static_cast<unsigned>(tiles * the.batch)}, srflow::kWarps * srflow::kLanes, tile.shared_bytes,
                         [&] {
                           srflow::flow_step_tail_kernel<rows, columns, T>(args, tile, the.scale_map, the.order,
                                                                           the.pixels % columns == 0);
                         });
  expect_near(got, expected);
  if (!the.h_a) return;
  std::vector<std::uint16_t> bits, wanted;
  for (std::int64_t sample = 0; sample < the.batch; ++sample)
    for (std::int64_t pixel = 0; pixel < the.pixels; ++pixel)
      for (std::int64_t channel = 0; channel < kept; ++channel) {
        const std::int64_t at = (sample * the.channels + channel) * the.pixels + pixel;
        wanted.push_back(srflow::narrowed(got[static_cast<std::size_t>(at)]).bits);
      }
  wanted.resize(h_a.size(), 0x7fff);  // nothing behind its end
  for (const Half& each : h_a) bits.push_back(each.bits);
  EXPECT_EQ(bits, wanted) << the.channels << " channels";
}

TEST(Quotient, OfShortAndOfLongNumbers) {
  const std::int64_t large = std::int64_t{1} << 40;
  EXPECT_EQ(srflow::quotient(17, 5), 3);
  EXPECT_EQ(srflow::quotient(0xffffffff, 0xffffffff), 1);
  EXPECT_EQ(srflow::quotient(large + 5, 7), (large + 5) / 7);
  EXPECT_EQ(srflow::quotient(5, large), 0);
}

TEST(FlowStepTailKernel, EqualsTheReferenceForEveryChannelCount) {
  for (std::int64_t channels : {1, 3, 12, 24, 48, 96}) expect_step_equals_reference<12, 2, float>({1, channels, 70, 1});
  for (std::int64_t channels : {97, 192}) expect_step_equals_reference<24, 1, float>({1, channels, 33, 1});
}

TEST(FlowStepTailKernel, TakesMoreChannelsThanItsWarpsHoldAtOnce) {
  expect_step_equals_reference<24, 1, float>({1, 200, 5, 1});
}

TEST(FlowStepTailKernel, SmallestSharedMemoryHoldsAsManyChannelsAsTheHeaderSays) {
  constexpr std::size_t on_sm_75 = 64 * 1024;
  EXPECT_LE((srflow::FlowStepTile<24, 1>::of(414).shared_bytes), on_sm_75);
  EXPECT_GT((srflow::FlowStepTile<24, 1>::of(415).shared_bytes), on_sm_75);
}

TEST(FlowStepTailKernel, OddPixelCountsAndSeveralTiles) {
  expect_step_equals_reference<12, 2, float>({1, 12, 1027, 1});
  expect_step_equals_reference<12, 2, float>({1, 96, 129, 1});
}

TEST(FlowStepTailKernel, BatchesWithOwnAndWithSharedConditioning) {
  expect_step_equals_reference<12, 2, float>({3, 24, 300, 3});
  expect_step_equals_reference<12, 2, float>({3, 24, 300, 1});
}

TEST(FlowStepTailKernel, HalfConditioning) {
  expect_step_equals_reference<12, 2, Half>({2, 12, 514, 1});
  expect_step_equals_reference<12, 2, Half>({1, 12, 7, 1});
  expect_step_equals_reference<24, 1, Half>({1, 100, 40, 1});
}

TEST(FlowStepTailKernel, ReadsAHeadWhoseChannelsAreLast) {
  const auto expect = [](auto rows, auto columns, StepCase the) {
    the.channels_last = true;
    expect_step_equals_reference<decltype(rows)::value, decltype(columns)::value, Half>(the);
  };
  const std::integral_constant<int, 12> few;
  const std::integral_constant<int, 24> many;
  const std::integral_constant<int, 1> one;
  const std::integral_constant<int, 2> two;
  for (std::int64_t channels : {1, 3, 12, 24, 48, 96}) expect(few, two, {2, channels, 70, 1});
  expect(few, two, {3, 12, 1027, 3});  // an odd number of pixels, several tiles
  expect(many, one, {2, 100, 40, 1});
}

// Every number of channels up to 40: h_A is written four, two or one at once.
TEST(FlowStepTailKernel, AlsoWritesHAInHalfWithItsChannelsLast) {
  const auto with_h_a = [](std::int64_t batch, std::int64_t channels, std::int64_t pixels) {
    StepCase the{batch, channels, pixels, 1};
    the.h_a = true;
    return the;
  };
  for (std::int64_t channels = 2; channels <= 40; ++channels)
    expect_step_equals_reference<12, 2, Half>(with_h_a(1, channels, 3));
  expect_step_equals_reference<12, 2, Half>(with_h_a(3, 12, 1027));  // an odd number of pixels, several tiles
  expect_step_equals_reference<12, 2, float>(with_h_a(2, 96, 70));
  for (std::int64_t channels : {100, 200}) expect_step_equals_reference<24, 1, Half>(with_h_a(2, channels, 40));
}

TEST(FlowStepTailKernel, EveryMapAndOrder) {
  for (ScaleMap map : {ScaleMap::kExp, ScaleMap::kSigmoid, ScaleMap::kTanh})
    for (AffineOrder order : {AffineOrder::kScaleFirst, AffineOrder::kShiftFirst})
      expect_step_equals_reference<12, 2, float>({1, 6, 20, 1, map, order});
}

TEST(FlowStepTailKernel, MayWriteWhereItReads) {
  expect_step_equals_reference<12, 2, float>({2, 48, 150, 1, ScaleMap::kExp, AffineOrder::kScaleFirst, true});
  expect_step_equals_reference<24, 1, float>({1, 200, 40, 1, ScaleMap::kExp, AffineOrder::kScaleFirst, true});
}

TEST(LatentsKernel, EqualsTheCFunctionBitForBit) {
  const srflow::LatentWindow window{0xFEDCBA9876543210u, 7, 2, 11, 3, 5, 9, 30};
  std::vector<float> expected(11 * 9 * 30), got(expected.size());
  ASSERT_EQ(srflow_standard_normal(window.seed, window.sample, window.level, window.channels, window.top, window.left,
                                   window.height, window.width, expected.data()),
            0);
  srflow::host_grid::run({5, 2}, 64, 0, [&] { srflow::draw_latents(window, nullptr, got.data()); });
  EXPECT_EQ(got, expected);
}

}  // namespace
