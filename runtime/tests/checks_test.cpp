// What the flow op refuses, and the messages.
#include "srflow/checks.h"

#include <gtest/gtest.h>

namespace {

using namespace srflow;

using TailShapes = std::array<Shape, 6>;

const TailShapes kTail = {
    Shape{2, 12, 5, 7}, {2, 12, 5, 7}, {1, 36, 5, 7}, {1, 36, 5, 7}, {12, 12, 1, 1}, {12},
};

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

TailShapes with(TailShapes shapes, std::size_t input, Shape shape) {
  shapes[input] = std::move(shape);
  return shapes;
}

std::string tail(std::size_t input, Shape shape) {
  return refusal([&] { check_tail_shapes(with(kTail, input, shape), 12, 24); });
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
}

TEST(Checks, ExtentsThatAreNotKnownFitAnything) {
  const Shape open = {kUnknown, kUnknown, kUnknown, kUnknown};
  for (std::size_t input : {0, 1}) EXPECT_EQ(tail(input, open), "");
  EXPECT_EQ(refusal([&] { check_tail_shapes(with(with(kTail, 2, open), 3, open), 12, 24); }), "");
}

}  // namespace
