#include "ort/bindings.h"

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

namespace srflow::ort {
namespace {

using Shape = std::vector<std::int64_t>;

[[noreturn]] void refuse(const std::string& message) {
  throw Ort::Exception("srflow: " + message, ORT_INVALID_ARGUMENT);
}

std::string text(const Shape& shape) {
  std::ostringstream stream;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) stream << (axis ? "x" : "") << shape[axis];
  return stream.str();
}

Shape shape_of(const Ort::KernelContext& context, std::size_t index) {
  return context.GetInput(index).GetTensorTypeAndShapeInfo().GetShape();
}

void expect(const std::string& name, const Shape& shape, const Shape& wanted) {
  if (shape != wanted) refuse(name + " is " + text(shape) + "; it must be " + text(wanted));
}

void expect_images(const std::string& name, const Shape& shape) {
  if (shape.size() != 4) refuse(name + " has " + std::to_string(shape.size()) + " axes; it must have 4");
}

template <typename T>
const T* input(const Ort::KernelContext& context, std::size_t index) {
  return static_cast<const T*>(context.GetInput(index).GetTensorRawData());
}

float* output(const Ort::KernelContext& context, const Shape& shape) {
  return static_cast<float*>(context.GetOutput(0, shape).GetTensorMutableRawData());
}

std::int64_t only(const Ort::ConstKernelInfo& info, const char* name) {
  const std::vector<std::int64_t> values = info.GetAttributes<std::int64_t>(name);
  if (values.size() != 1) refuse(std::string("attribute ") + name + " must be a list of one integer");
  return values[0];
}

}  // namespace

TailAttributes::TailAttributes(const OrtKernelInfo* info) {
  const Ort::ConstKernelInfo attributes{info};
  const std::string map = attributes.GetAttribute<std::string>("scale_map");
  const std::string affine = attributes.GetAttribute<std::string>("order");
  if (!parse_scale_map(map.c_str(), &scale_map))
    refuse("attribute scale_map is \"" + map + "\"; it must be exp, sigmoid or tanh");
  if (!parse_order(affine.c_str(), &order))
    refuse("attribute order is \"" + affine + "\"; it must be scale_first or shift_first");
  clamp = attributes.GetAttribute<float>("clamp");
  if (scale_map == ScaleMap::kTanh && !(clamp > 0.0f && std::isfinite(clamp)))
    refuse("attribute clamp is " + std::to_string(clamp) + "; for the tanh map it must be positive and finite");
  begin = only(attributes, "begin");
  end = only(attributes, "end");
  if (begin < 0 || end <= begin)
    refuse("attributes begin and end are " + std::to_string(begin) + " and " + std::to_string(end) +
           "; 0 <= begin < end must hold");
}

SplitAttributes::SplitAttributes(const OrtKernelInfo* info)
    : bound(Ort::ConstKernelInfo{info}.GetAttribute<float>("bound")) {
  if (!(bound >= 0.0f && std::isfinite(bound)))
    refuse("attribute bound is " + std::to_string(bound) + "; it must be positive and finite, or 0 for none");
}

template <typename T>
FlowStepTailArgs<T> bind_tail(const Ort::KernelContext& context, const TailAttributes& attributes) {
  const Shape h = shape_of(context, 0), scale = shape_of(context, 2);
  expect_images("h", h);
  expect_images("injector_scale", scale);
  const std::int64_t batch = h[0], channels = h[1], height = h[2], width = h[3];
  expect("head", shape_of(context, 1), {batch, 2 * (channels - channels / 2), height, width});
  expect("injector_scale", scale, {scale[0] == 1 ? 1 : batch, scale[1], height, width});
  expect("injector_shift", shape_of(context, 3), scale);
  expect("mixing_weight", shape_of(context, 4), {channels, channels, 1, 1});
  expect("mixing_bias", shape_of(context, 5), {channels});
  if (attributes.end - attributes.begin != channels || attributes.end > scale[1])
    refuse("attributes begin and end are " + std::to_string(attributes.begin) + " and " +
           std::to_string(attributes.end) + ", which is not " + std::to_string(channels) + " of the " +
           std::to_string(scale[1]) + " channels of injector_scale");
  return {input<float>(context, 0), input<T>(context, 1),     input<T>(context, 2), input<T>(context, 3),
          input<float>(context, 4), input<float>(context, 5), output(context, h),   batch,
          channels,                 height * width,           scale[0],             scale[1],
          attributes.begin,         attributes.clamp};
}

template <typename T>
UnsqueezeSplitArgs<T> bind_split(const Ort::KernelContext& context, const SplitAttributes& attributes) {
  const Shape h = shape_of(context, 0), noise = shape_of(context, 2), tau = shape_of(context, 3);
  expect_images("h", h);
  expect_images("noise", noise);
  const std::int64_t batch = h[0], kept = h[1] / 4, drawn = noise[1], height = 2 * h[2], width = 2 * h[3];
  if (h[1] % 4 != 0) refuse("h has " + std::to_string(h[1]) + " channels; they must be a multiple of 4");
  expect("noise", noise, {batch, drawn, height, width});
  expect("head", shape_of(context, 1), {batch, 2 * drawn, height, width});
  expect("tau", tau, {tau.size() == 1 && tau[0] == 1 ? 1 : batch});
  float* out = output(context, {batch, kept + drawn, height, width});
  return {input<float>(context, 0), input<T>(context, 1), input<float>(context, 2), input<float>(context, 3), out, batch,
          kept, drawn, height, width, tau[0], attributes.bound};
}

template FlowStepTailArgs<float> bind_tail(const Ort::KernelContext&, const TailAttributes&);
template FlowStepTailArgs<Half> bind_tail(const Ort::KernelContext&, const TailAttributes&);
template UnsqueezeSplitArgs<float> bind_split(const Ort::KernelContext&, const SplitAttributes&);
template UnsqueezeSplitArgs<Half> bind_split(const Ort::KernelContext&, const SplitAttributes&);

}  // namespace srflow::ort
