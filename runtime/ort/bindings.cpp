#include "ort/bindings.h"

#include <array>
#include <string>
#include <vector>

#include "srflow/checks.h"

namespace srflow::ort {
namespace {

template <typename T>
const T* input(const Ort::KernelContext& context, std::size_t index) {
  return static_cast<const T*>(context.GetInput(index).GetTensorRawData());
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

template <typename T>
FlowStepTailArgs<T> bind_tail(const Ort::KernelContext& context, const TailAttributes& attributes) {
  std::array<Shape, 6> shapes;
  for (std::size_t index = 0; index < shapes.size(); ++index)
    shapes[index] = context.GetInput(index).GetTensorTypeAndShapeInfo().GetShape();
  check_tail_shapes(shapes, attributes.begin, attributes.end);
  const Shape &h = shapes[0], &conditioning = shapes[2];
  float* const out = context.GetOutput(0, h).GetTensorMutableData<float>();
  return {input<float>(context, 0), input<T>(context, 1),     input<T>(context, 2), input<T>(context, 3),
          input<float>(context, 4), input<float>(context, 5), out,                  h[0],
          h[1],                     h[2] * h[3],              conditioning[0],      conditioning[1],
          attributes.begin,         attributes.clamp};
}

template FlowStepTailArgs<float> bind_tail(const Ort::KernelContext&, const TailAttributes&);
template FlowStepTailArgs<Half> bind_tail(const Ort::KernelContext&, const TailAttributes&);

}  // namespace srflow::ort
