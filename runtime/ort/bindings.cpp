#include "ort/bindings.h"

#include <array>
#include <string>
#include <vector>

#include "srflow/checks.h"

namespace srflow::ort {
namespace {

template <std::size_t inputs>
std::array<Shape, inputs> shapes_of(const Ort::KernelContext& context) {
  std::array<Shape, inputs> shapes;
  for (std::size_t index = 0; index < inputs; ++index)
    shapes[index] = context.GetInput(index).GetTensorTypeAndShapeInfo().GetShape();
  return shapes;
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
  if (values.size() != 1) throw not_one_integer(name);
  return values[0];
}

}  // namespace

TailAttributes::TailAttributes(const OrtKernelInfo* info) {
  const Ort::ConstKernelInfo attributes{info};
  scale_map = scale_map_of(attributes.GetAttribute<std::string>("scale_map"));
  order = order_of(attributes.GetAttribute<std::string>("order"));
  clamp = attributes.GetAttribute<float>("clamp");
  begin = only(attributes, "begin");
  end = only(attributes, "end");
  check_tail_attributes(scale_map, clamp, begin, end);
}

SplitAttributes::SplitAttributes(const OrtKernelInfo* info)
    : bound(Ort::ConstKernelInfo{info}.GetAttribute<float>("bound")) {
  check_split_attributes(bound);
}

template <typename T>
FlowStepTailArgs<T> bind_tail(const Ort::KernelContext& context, const TailAttributes& attributes) {
  const auto shapes = shapes_of<6>(context);
  check_tail_shapes(shapes, attributes.begin, attributes.end);
  const Shape &h = shapes[0], &conditioning = shapes[2];
  return {input<float>(context, 0), input<T>(context, 1),     input<T>(context, 2), input<T>(context, 3),
          input<float>(context, 4), input<float>(context, 5), output(context, h),   h[0],
          h[1],                     h[2] * h[3],              conditioning[0],      conditioning[1],
          attributes.begin,         attributes.clamp};
}

template <typename T>
UnsqueezeSplitArgs<T> bind_split(const Ort::KernelContext& context, const SplitAttributes& attributes) {
  const auto shapes = shapes_of<4>(context);
  check_split_shapes(shapes);
  const Shape &h = shapes[0], &noise = shapes[2];
  const std::int64_t batch = noise[0], kept = h[1] / 4, drawn = noise[1], height = noise[2], width = noise[3];
  float* out = output(context, {batch, kept + drawn, height, width});
  return {input<float>(context, 0), input<T>(context, 1), input<float>(context, 2), input<float>(context, 3), out, batch,
          kept, drawn, height, width, shapes[3][0], attributes.bound};
}

template FlowStepTailArgs<float> bind_tail(const Ort::KernelContext&, const TailAttributes&);
template FlowStepTailArgs<Half> bind_tail(const Ort::KernelContext&, const TailAttributes&);
template UnsqueezeSplitArgs<float> bind_split(const Ort::KernelContext&, const SplitAttributes&);
template UnsqueezeSplitArgs<Half> bind_split(const Ort::KernelContext&, const SplitAttributes&);

}  // namespace srflow::ort
