#include "ops.h"

#include <cmath>
#include <initializer_list>

#include "srflow/cuda_kernels.h"

namespace srflow::trt {
namespace {

using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::PluginFieldType;

constexpr std::int64_t kUnknown = -1;

std::string text(const std::int64_t* extents, int rank) {
  std::string joined = rank == 0 ? "a scalar" : "";
  for (int axis = 0; axis < rank; ++axis)
    joined += (axis ? "x" : "") + (extents[axis] == kUnknown ? "?" : std::to_string(extents[axis]));
  return joined;
}

void expect(const char* name, const Dims& shape, std::initializer_list<std::int64_t> wanted) {
  bool fits = shape.nbDims == static_cast<int>(wanted.size());
  for (int axis = 0; fits && axis < shape.nbDims; ++axis) {
    const std::int64_t want = wanted.begin()[axis];
    fits = shape.d[axis] == kUnknown || want == kUnknown || shape.d[axis] == want;
  }
  if (!fits) {
    throw Refusal(std::string(name) + " is " + text(shape.d, shape.nbDims) + "; it must be " +
                  text(wanted.begin(), static_cast<int>(wanted.size())));
  }
}

// f of an extent that may be unknown.
template <typename Function>
std::int64_t of(std::int64_t extent, Function f) {
  return extent == kUnknown ? kUnknown : f(extent);
}

// The first of two that is known: an extent which two inputs share.
std::int64_t known(std::int64_t one, std::int64_t other) { return one == kUnknown ? other : one; }

template <typename T>
const T* as(const void* tensor) {
  return static_cast<const T*>(tensor);
}

}  // namespace

FieldList FlowStepTail::field_names() {
  return {{"scale_map", nullptr, PluginFieldType::kCHAR, 1},
          {"order", nullptr, PluginFieldType::kCHAR, 1},
          {"clamp", nullptr, PluginFieldType::kFLOAT32, 1},
          {"begin", nullptr, PluginFieldType::kINT32, 1},
          {"end", nullptr, PluginFieldType::kINT32, 1}};
}

FlowStepTail::FlowStepTail(const Fields& fields)
    : scale_map_(fields.text("scale_map")),
      order_(fields.text("order")),
      clamp_(fields.number("clamp")),
      begin_(fields.integer("begin")),
      end_(fields.integer("end")) {
  if (!parse_scale_map(scale_map_.c_str(), &map_))
    throw Refusal("attribute scale_map is \"" + scale_map_ + "\"; it must be exp, sigmoid or tanh");
  if (!parse_order(order_.c_str(), &affine_order_))
    throw Refusal("attribute order is \"" + order_ + "\"; it must be scale_first or shift_first");
  if (map_ == ScaleMap::kTanh && !(clamp_ > 0.0f && std::isfinite(clamp_)))
    throw Refusal("attribute clamp is " + std::to_string(clamp_) + "; for the tanh map it must be positive");
  if (begin_ < 0 || end_ <= begin_) {
    throw Refusal("attributes begin and end are " + std::to_string(begin_) + " and " + std::to_string(end_) +
                  "; 0 <= begin < end must hold");
  }
}

FieldList FlowStepTail::fields() const {
  return {{"scale_map", scale_map_.data(), PluginFieldType::kCHAR, static_cast<int32_t>(scale_map_.size())},
          {"order", order_.data(), PluginFieldType::kCHAR, static_cast<int32_t>(order_.size())},
          {"clamp", &clamp_, PluginFieldType::kFLOAT32, 1},
          {"begin", &begin_, PluginFieldType::kINT32, 1},
          {"end", &end_, PluginFieldType::kINT32, 1}};
}

std::string FlowStepTail::description() const {
  return "scale_map=" + scale_map_ + " order=" + order_ + " clamp=" + std::to_string(clamp_) +
         " begin=" + std::to_string(begin_) + " end=" + std::to_string(end_);
}

void FlowStepTail::check(const Dims* inputs) const {
  const std::int64_t channels = end_ - begin_;
  expect("h", inputs[0], {kUnknown, channels, kUnknown, kUnknown});
  const std::int64_t batch = inputs[0].d[0], height = inputs[0].d[2], width = inputs[0].d[3];
  expect("head", inputs[1], {batch, 2 * (channels - channels / 2), height, width});
  expect("injector_scale", inputs[2], {inputs[2].d[0] == 1 ? 1 : batch, kUnknown, height, width});
  expect("injector_shift", inputs[3], {inputs[2].d[0], inputs[2].d[1], inputs[2].d[2], inputs[2].d[3]});
  if (inputs[2].d[1] != kUnknown && inputs[2].d[1] < end_) {
    throw Refusal("attribute end is " + std::to_string(end_) + ", but injector_scale has " +
                  std::to_string(inputs[2].d[1]) + " channels");
  }
  expect("mixing_weight", inputs[4], {channels, channels, 1, 1});
  expect("mixing_bias", inputs[5], {channels});
}

DimsExprs FlowStepTail::output_shape(const DimsExprs* inputs, nvinfer1::IExprBuilder&) const { return inputs[0]; }

template <typename T>
int FlowStepTail::launch(const nvinfer1::PluginTensorDesc* shapes, const void* const* inputs, void* output,
                         void* stream) const {
  const Dims &h = shapes[0].dims, &conditioning = shapes[2].dims;
  return launch_flow_step_tail(
      FlowStepTailArgs<T>{as<float>(inputs[0]), as<T>(inputs[1]), as<T>(inputs[2]), as<T>(inputs[3]),
                          as<float>(inputs[4]), as<float>(inputs[5]), static_cast<float*>(output), h.d[0], h.d[1],
                          h.d[2] * h.d[3], conditioning.d[0], conditioning.d[1], begin_, clamp_},
      map_, affine_order_, stream);
}

FieldList UnsqueezeSplit::field_names() { return {{"bound", nullptr, PluginFieldType::kFLOAT32, 1}}; }

UnsqueezeSplit::UnsqueezeSplit(const Fields& fields) : bound_(fields.number("bound")) {
  if (!(bound_ >= 0.0f && std::isfinite(bound_)))
    throw Refusal("attribute bound is " + std::to_string(bound_) + "; it must be positive, or 0 for none");
}

FieldList UnsqueezeSplit::fields() const { return {{"bound", &bound_, PluginFieldType::kFLOAT32, 1}}; }

std::string UnsqueezeSplit::description() const { return "bound=" + std::to_string(bound_); }

void UnsqueezeSplit::check(const Dims* inputs) const {
  expect("h", inputs[0], {kUnknown, kUnknown, kUnknown, kUnknown});
  expect("noise", inputs[2], {inputs[0].d[0], kUnknown, kUnknown, kUnknown});
  if (inputs[0].d[1] != kUnknown && inputs[0].d[1] % 4 != 0)
    throw Refusal("h has " + std::to_string(inputs[0].d[1]) + " channels; they must be a multiple of 4");
  const auto twice = [](std::int64_t extent) { return 2 * extent; };
  const std::int64_t batch = known(inputs[0].d[0], inputs[2].d[0]);
  const std::int64_t height = known(of(inputs[0].d[2], twice), inputs[2].d[2]);
  const std::int64_t width = known(of(inputs[0].d[3], twice), inputs[2].d[3]);
  expect("noise", inputs[2], {batch, kUnknown, height, width});
  expect("head", inputs[1], {batch, of(inputs[2].d[1], twice), height, width});
  expect("tau", inputs[3], {inputs[3].d[0] == 1 ? 1 : batch});
}

DimsExprs UnsqueezeSplit::output_shape(const DimsExprs* inputs, nvinfer1::IExprBuilder& builder) const {
  using nvinfer1::DimensionOperation;
  const DimsExprs &h = inputs[0], &noise = inputs[2];
  const auto *two = builder.constant(2), *four = builder.constant(4);
  DimsExprs shape = h;
  shape.d[1] = builder.operation(DimensionOperation::kSUM,
                                 *builder.operation(DimensionOperation::kFLOOR_DIV, *h.d[1], *four), *noise.d[1]);
  for (int axis : {2, 3}) shape.d[axis] = builder.operation(DimensionOperation::kPROD, *h.d[axis], *two);
  return shape;
}

template <typename T>
int UnsqueezeSplit::launch(const nvinfer1::PluginTensorDesc* shapes, const void* const* inputs, void* output,
                           void* stream) const {
  const Dims &h = shapes[0].dims, &noise = shapes[2].dims;
  return launch_unsqueeze_split(
      UnsqueezeSplitArgs<T>{as<float>(inputs[0]), as<T>(inputs[1]), as<float>(inputs[2]), as<float>(inputs[3]),
                            static_cast<float*>(output), h.d[0], h.d[1] / 4, noise.d[1], noise.d[2], noise.d[3],
                            shapes[3].dims.d[0], bound_},
      stream);
}

template int FlowStepTail::launch<float>(const nvinfer1::PluginTensorDesc*, const void* const*, void*, void*) const;
template int FlowStepTail::launch<Half>(const nvinfer1::PluginTensorDesc*, const void* const*, void*, void*) const;
template int UnsqueezeSplit::launch<float>(const nvinfer1::PluginTensorDesc*, const void* const*, void*, void*) const;
template int UnsqueezeSplit::launch<Half>(const nvinfer1::PluginTensorDesc*, const void* const*, void*, void*) const;

}  // namespace srflow::trt
