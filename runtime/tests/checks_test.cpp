// What the flow ops refuse, and the messages.
#include "srflow/checks.h"

#include <gtest/gtest.h>

namespace {

using namespace srflow;

using TailShapes = std::array<Shape, 6>;
using SplitShapes = std::array<Shape, 4>;

const TailShapes kTail = {
    Shape{2, 12, 5, 7}, {2, 12, 5, 7}, {1, 36, 5, 7}, {1, 36, 5, 7}, {12, 12, 1, 1}, {12},
};
const SplitShapes kSplit = {Shape{2, 12, 5, 7}, {2, 8, 10, 14}, {2, 4, 10, 14}, {1}};

// The refusal's message; empty if there is none.
template <typename Check>
std::string refusal(const Check& check) {
  try {
    check();
    return "";
  } catch (const Refusal& refusal) {
    return refusal.what();
  }
}

template <typename Shapes>
Shapes with(Shapes shapes, std::size_t input, Shape shape) {
  shapes[input] = std::move(shape);
  return shapes;
}

std::string tail(std::size_t input, Shape shape) {
  return refusal([&] { check_tail_shapes(with(kTail, input, shape), 12, 24); });
}
std::string split(std::size_t input, Shape shape) {
  return refusal([&] { check_split_shapes(with(kSplit, input, shape)); });
}

TEST(Checks, NameTheInputThatDoesNotFit) {
  EXPECT_EQ(refusal([] { check_tail_shapes(kTail, 12, 24); }), "");
  EXPECT_EQ(tail(0, {12, 5, 7}), "h is 12x5x7; it must be ?x12x?x?");
  EXPECT_EQ(tail(1, {2, 14, 5, 7}), "head is 2x14x5x7; it must be 2x12x5x7");
  EXPECT_EQ(tail(2, {}), "injector_scale is a scalar; it must be 2x?x5x7");
  EXPECT_EQ(tail(2, {2, 36, 5, 7}), "injector_shift is 1x36x5x7; it must be 2x36x5x7");
  EXPECT_EQ(tail(4, {12, 12}), "mixing_weight is 12x12; it must be 12x12x1x1");
  EXPECT_EQ(tail(5, {1}), "mixing_bias is 1; it must be 12");
  EXPECT_EQ(refusal([] { check_tail_shapes(kTail, 36, 48); }),
            "attribute end is 48, but injector_scale has 36 channels");

  EXPECT_EQ(refusal([] { check_split_shapes(kSplit); }), "");
  EXPECT_EQ(split(0, {2, 10, 5, 7}), "h has 10 channels; they must be a multiple of 4");
  EXPECT_EQ(split(1, {2, 4, 10, 14}), "head is 2x4x10x14; it must be 2x8x10x14");
  EXPECT_EQ(split(2, {2, 4, 10}), "noise is 2x4x10; it must be 2x?x10x14");
  EXPECT_EQ(split(3, {3}), "tau is 3; it must be 2");
  EXPECT_EQ(split(3, {1, 1}), "tau is 1x1; it must be 1");
}

TEST(Checks, ExtentsThatAreNotKnownFitAnything) {
  const Shape open = {kUnknown, kUnknown, kUnknown, kUnknown};
  for (std::size_t input : {0, 1}) EXPECT_EQ(tail(input, open), "");
  EXPECT_EQ(refusal([&] { check_tail_shapes(with(with(kTail, 2, open), 3, open), 12, 24); }), "");
  for (std::size_t input : {0, 1, 2}) EXPECT_EQ(split(input, open), "");
  EXPECT_EQ(split(3, {kUnknown}), "");
  // What is unknown in one input is known from another.
  EXPECT_EQ(refusal([&] { check_split_shapes(with(with(kSplit, 0, open), 1, {3, 8, 10, 14})); }),
            "head is 3x8x10x14; it must be 2x8x10x14");
}

}  // namespace
