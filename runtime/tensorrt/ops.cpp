#include "ops.h"

#include <algorithm>
#include <array>

#include "srflow/checks.h"
#include "srflow/cuda_kernels.h"

namespace srflow::trt {
namespace {

using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

template <typename T>
const T* as(const void* tensor) {
  return static_cast<const T*>(tensor);
}

// An optional attribute of an engine's graph: 0 or 1, and 0 in graphs of bundles.
std::int32_t flag(const Fields& fields, const char* name) {
  const std::int32_t value = fields.has(name) ? fields.integer(name) : 0;
  if (value < 0 || value > 1)
    throw Refusal("attribute " + std::string(name) + " is " + std::to_string(value) + "; it must be 0 or 1");
  return value;
}

}  // namespace

FieldList FlowStepTail::field_names() {
  return {{"scale_map", nullptr, PluginFieldType::kCHAR, 1},
          {"order", nullptr, PluginFieldType::kCHAR, 1},
          {"clamp", nullptr, PluginFieldType::kFLOAT32, 1},
          {"begin", nullptr, PluginFieldType::kINT32, 1},
          {"end", nullptr, PluginFieldType::kINT32, 1},
          {"channels_last", nullptr, PluginFieldType::kINT32, 1},
          {"h_a", nullptr, PluginFieldType::kINT32, 1}};
}

FlowStepTail::FlowStepTail(const Fields& fields)
    : scale_map_(fields.text("scale_map")),
      order_(fields.text("order")),
      map_(scale_map_of(scale_map_)),
      affine_order_(order_of(order_)),
      clamp_(fields.number("clamp")),
      begin_(fields.integer("begin")),
      end_(fields.integer("end")),
      channels_last_(flag(fields, "channels_last")),
      h_a_(flag(fields, "h_a")) {
  check_tail_attributes(map_, clamp_, begin_, end_);
  if (h_a_ == 1 && end_ - begin_ < 2) throw Refusal("attribute h_a is 1; that takes two channels or more");
}

FieldList FlowStepTail::fields() const {
  return {{"scale_map", scale_map_.data(), PluginFieldType::kCHAR, static_cast<int32_t>(scale_map_.size())},
          {"order", order_.data(), PluginFieldType::kCHAR, static_cast<int32_t>(order_.size())},
          {"clamp", &clamp_, PluginFieldType::kFLOAT32, 1},
          {"begin", &begin_, PluginFieldType::kINT32, 1},
          {"end", &end_, PluginFieldType::kINT32, 1},
          {"channels_last", &channels_last_, PluginFieldType::kINT32, 1},
          {"h_a", &h_a_, PluginFieldType::kINT32, 1}};
}

std::string FlowStepTail::description() const {
  return "scale_map=" + scale_map_ + " order=" + order_ + " clamp=" + std::to_string(clamp_) +
         " begin=" + std::to_string(begin_) + " end=" + std::to_string(end_) +
         " channels_last=" + std::to_string(channels_last_) + " h_a=" + std::to_string(h_a_);
}

void FlowStepTail::check(const Dims* inputs) const {
  std::array<Shape, kInputs> shapes;
  for (int i = 0; i < kInputs; ++i) shapes[i].assign(inputs[i].d, inputs[i].d + std::max(inputs[i].nbDims, 0));
  Shape& head = shapes[kHead];  // the check takes it as N × C × H × W
  if (channels_last_ == 1 && head.size() == 4) std::rotate(head.begin() + 1, head.end() - 1, head.end());
  check_tail_shapes(shapes, begin_, end_);
}

void FlowStepTail::output_shapes(const DimsExprs* inputs, DimsExprs* outputs, nvinfer1::IExprBuilder& builder) const {
  const DimsExprs& h = outputs[0] = inputs[0];
  if (h_a_ == 1) outputs[1] = {4, {h.d[0], h.d[2], h.d[3], builder.constant((end_ - begin_) / 2)}};
}

template <typename T>
int FlowStepTail::launch(const PluginTensorDesc* shapes, const void* const* inputs, void* const* outputs,
                         void* stream) const {
  const Dims &h = shapes[0].dims, &conditioning = shapes[2].dims;
  return launch_flow_step_tail(
      FlowStepTailArgs<T>{as<float>(inputs[0]), as<T>(inputs[1]), as<T>(inputs[2]), as<T>(inputs[3]),
                          as<float>(inputs[4]), as<float>(inputs[5]), static_cast<float*>(outputs[0]), h.d[0], h.d[1],
                          h.d[2] * h.d[3], conditioning.d[0], conditioning.d[1], begin_, clamp_,
                          channels_last_ == 1, h_a_ == 1 ? static_cast<Half*>(outputs[1]) : nullptr},
      map_, affine_order_, stream);
}

template int FlowStepTail::launch<float>(const PluginTensorDesc*, const void* const*, void* const*, void*) const;
template int FlowStepTail::launch<Half>(const PluginTensorDesc*, const void* const*, void* const*, void*) const;

}  // namespace srflow::trt
