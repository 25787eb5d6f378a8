// Checks of the flow op's attributes and shapes, with the same messages in every runtime.
//
// Only for the host, because it uses the standard library; kernel sources do not include it. An unknown extent is −1,
// as in TensorRT, and fits anything.
#ifndef SRFLOW_CHECKS_H_
#define SRFLOW_CHECKS_H_

#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "srflow/flow_ops.h"

namespace srflow {

// A user's mistake: what() says what is wrong and what would be right. It never leaves the library as an exception; the
// library reports it to the runtime.
class Refusal : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

using Shape = std::vector<std::int64_t>;
constexpr std::int64_t kUnknown = -1;

inline std::string text_of(const Shape& shape) {
  std::string joined = shape.empty() ? "a scalar" : "";
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    joined += (axis ? "x" : "") + (shape[axis] == kUnknown ? "?" : std::to_string(shape[axis]));
  return joined;
}

inline void expect_shape(const std::string& name, const Shape& shape, const Shape& wanted) {
  bool fits = shape.size() == wanted.size();
  for (std::size_t axis = 0; fits && axis < shape.size(); ++axis)
    fits = shape[axis] == kUnknown || wanted[axis] == kUnknown || shape[axis] == wanted[axis];
  if (!fits) throw Refusal(name + " is " + text_of(shape) + "; it must be " + text_of(wanted));
}

inline Refusal not_one_integer(const std::string& name) {
  return Refusal("attribute " + name + " must be one integer");
}

inline ScaleMap scale_map_of(const std::string& text) {
  ScaleMap scale_map;
  if (!parse_scale_map(text.c_str(), &scale_map))
    throw Refusal("attribute scale_map is \"" + text + "\"; it must be exp, sigmoid or tanh");
  return scale_map;
}

inline AffineOrder order_of(const std::string& text) {
  AffineOrder order;
  if (!parse_order(text.c_str(), &order))
    throw Refusal("attribute order is \"" + text + "\"; it must be scale_first or shift_first");
  return order;
}

inline void check_tail_attributes(ScaleMap scale_map, float clamp, std::int64_t begin, std::int64_t end) {
  if (scale_map == ScaleMap::kTanh && !(clamp > 0.0f && std::isfinite(clamp)))
    throw Refusal("attribute clamp is " + std::to_string(clamp) + "; for the tanh map it must be positive and finite");
  if (begin < 0 || end <= begin)
    throw Refusal("attributes begin and end are " + std::to_string(begin) + " and " + std::to_string(end) +
                  "; 0 <= begin < end must hold");
}

// inputs: h, head, injector_scale, injector_shift, mixing_weight, mixing_bias.
inline void check_tail_shapes(const std::array<Shape, 6>& inputs, std::int64_t begin, std::int64_t end) {
  const auto& [h, head, injector_scale, injector_shift, mixing_weight, mixing_bias] = inputs;
  const std::int64_t channels = end - begin;
  expect_shape("h", h, {kUnknown, channels, kUnknown, kUnknown});
  const std::int64_t batch = h[0], height = h[2], width = h[3];
  expect_shape("head", head, {batch, 2 * (channels - channels / 2), height, width});
  const bool shared = !injector_scale.empty() && injector_scale[0] == 1;  // one for the whole batch
  expect_shape("injector_scale", injector_scale, {shared ? 1 : batch, kUnknown, height, width});
  expect_shape("injector_shift", injector_shift, injector_scale);
  if (injector_scale[1] != kUnknown && injector_scale[1] < end)
    throw Refusal("attribute end is " + std::to_string(end) + ", but injector_scale has " +
                  std::to_string(injector_scale[1]) + " channels");
  expect_shape("mixing_weight", mixing_weight, {channels, channels, 1, 1});
  expect_shape("mixing_bias", mixing_bias, {channels});
}

}  // namespace srflow

#endif  // SRFLOW_CHECKS_H_
