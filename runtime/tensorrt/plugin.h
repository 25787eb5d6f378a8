// The flow op (ops.h) as a TensorRT plugin: IPluginV3 with its three capabilities, and the plugin's creator.
//
// No exception may reach TensorRT: errors are logged and returned, which ends the build or the run.
#ifndef SRFLOW_TENSORRT_PLUGIN_H_
#define SRFLOW_TENSORRT_PLUGIN_H_

#include <array>
#include <utility>

#include "logging.h"
#include "ops.h"
#include "srflow/cuda_kernels.h"

namespace srflow::trt {

constexpr const char* kNamespace = "srflow";
constexpr const char* kVersion = "1";

class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
  using Op = FlowStepTail;
  using DataType = nvinfer1::DataType;
  using Description = nvinfer1::PluginTensorDesc;
  using DynamicDescription = nvinfer1::DynamicPluginTensorDesc;
  using Shapes = std::array<nvinfer1::Dims, Op::kInputs>;

 public:
  // node: the name that messages use.
  Plugin(Op op, std::string node)
      : op_(std::move(op)), node_(std::move(node)), timing_id_(op_.timing_id()), metadata_(op_.description()) {}

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }
  nvinfer1::IPluginV3* clone() noexcept override {
    nvinfer1::IPluginV3* copy = nullptr;
    guarded([&] { copy = new Plugin(op_, node_); });
    return copy;
  }

  // Core.
  const char* getPluginName() const noexcept override { return Op::kName; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  // Build.
  std::int32_t getNbOutputs() const noexcept override { return op_.outputs(); }
  std::int32_t configurePlugin(const DynamicDescription*, std::int32_t, const DynamicDescription*,
                               std::int32_t) noexcept override {
    return 0;
  }
  bool supportsFormatCombination(std::int32_t position, const DynamicDescription* tensors, std::int32_t inputs,
                                 std::int32_t outputs) noexcept override {
    if (inputs != Op::kInputs || outputs != op_.outputs() || position < 0 || position >= inputs + outputs) return false;
    const Description& tensor = tensors[position].desc;
    // Builders never chose kHWC8 for plugins: graphs have transpositions, which become nothing, in its place.
    if (tensor.format != nvinfer1::TensorFormat::kLINEAR) return false;
    if (position > inputs) return tensor.type == DataType::kHALF;  // h_A
    if (!Op::is_conditioning(position)) return tensor.type == DataType::kFLOAT;
    // Either type for the first conditioning input, and the same type for the others.
    return Op::is_conditioning(position - 1) ? tensor.type == tensors[position - 1].desc.type
                                             : is_conditioning_type(tensor.type);
  }
  std::int32_t getOutputDataTypes(DataType* outputs, std::int32_t output_count, const DataType* inputs,
                                  std::int32_t input_count) const noexcept override {
    return guarded([&] {
      expect_counts(input_count, output_count);
      for (int i = 0; i < Op::kInputs; ++i) {
        const bool fits = Op::is_conditioning(i) ? is_conditioning_type(inputs[i]) : inputs[i] == DataType::kFLOAT;
        if (!fits) {
          throw Refusal("input " + std::to_string(i) + " must be float32" +
                        (Op::is_conditioning(i) ? " or float16" : ""));
        }
        if (Op::is_conditioning(i - 1) && Op::is_conditioning(i) && inputs[i] != inputs[i - 1])
          throw Refusal("inputs " + std::to_string(i - 1) + " and " + std::to_string(i) + " must have the same type");
      }
      for (int i = 0; i < op_.outputs(); ++i) outputs[i] = i == 0 ? DataType::kFLOAT : DataType::kHALF;
    });
  }
  std::int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t input_count, const nvinfer1::DimsExprs*,
                               std::int32_t, nvinfer1::DimsExprs* outputs, std::int32_t output_count,
                               nvinfer1::IExprBuilder& builder) noexcept override {
    return guarded([&] {
      expect_counts(input_count, output_count);
      Shapes shapes{};
      for (int i = 0; i < Op::kInputs; ++i) {
        shapes[i].nbDims = inputs[i].nbDims;
        for (int axis = 0; axis < inputs[i].nbDims; ++axis) {
          const nvinfer1::IDimensionExpr* extent = inputs[i].d[axis];
          shapes[i].d[axis] = extent->isConstant() ? extent->getConstantValue() : -1;
        }
      }
      op_.check(shapes.data());
      op_.output_shapes(inputs, outputs, builder);
    });
  }
  const char* getTimingCacheID() noexcept override { return timing_id_.c_str(); }
  const char* getMetadataString() noexcept override { return metadata_.c_str(); }

  // Runtime.
  std::int32_t onShapeChange(const Description* inputs, std::int32_t input_count, const Description*,
                             std::int32_t output_count) noexcept override {
    return guarded([&] {
      expect_counts(input_count, output_count);
      Shapes shapes{};
      for (int i = 0; i < Op::kInputs; ++i) shapes[i] = inputs[i].dims;
      op_.check(shapes.data());
    });
  }
  std::int32_t enqueue(const Description* inputs, const Description*, const void* const* input_data,
                       void* const* output_data, void*, cudaStream_t stream) noexcept override {
    return guarded([&] {
      const bool half = inputs[Op::kHead].type == DataType::kHALF;
      const int error = half ? op_.launch<Half>(inputs, input_data, output_data, stream)
                             : op_.launch<float>(inputs, input_data, output_data, stream);
      if (error != 0) throw Refusal(std::string("CUDA refuses the kernel: ") + cuda_error_text(error));
    });
  }
  // The plugin holds no state of a context, so a clone is enough.
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override {
    guarded([&] { fields_ = op_.fields(); });
    serialized_ = {static_cast<std::int32_t>(fields_.size()), fields_.data()};
    return &serialized_;
  }

 private:
  static bool is_conditioning_type(DataType type) { return type == DataType::kFLOAT || type == DataType::kHALF; }

  void expect_counts(std::int32_t inputs, std::int32_t outputs) const {
    if (inputs != Op::kInputs || outputs != op_.outputs()) {
      throw Refusal("the node has " + std::to_string(inputs) + " inputs and " + std::to_string(outputs) +
                    " outputs; it must have " + std::to_string(Op::kInputs) + " and " + std::to_string(op_.outputs()));
    }
  }

  // Returns 0, or −1 if work throws; then the message is logged.
  template <typename Work>
  std::int32_t guarded(const Work& work) const noexcept {
    try {
      work();
      return 0;
    } catch (const std::exception& error) {
      log_error(std::string(Op::kName) + " " + node_ + ": " + error.what());
      return -1;
    }
  }

  const Op op_;
  const std::string node_, timing_id_, metadata_;
  FieldList fields_;
  nvinfer1::PluginFieldCollection serialized_;
};

class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase) noexcept override {
    const char* const node = name == nullptr ? "" : name;
    try {
      return new Plugin(FlowStepTail(Fields(fields)), node);
    } catch (const std::exception& error) {
      log_error(std::string(FlowStepTail::kName) + " " + node + ": " + error.what());
      return nullptr;
    }
  }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &collection_; }
  const char* getPluginName() const noexcept override { return FlowStepTail::kName; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

 private:
  const FieldList names_ = FlowStepTail::field_names();
  const nvinfer1::PluginFieldCollection collection_{static_cast<std::int32_t>(names_.size()), names_.data()};
};

}  // namespace srflow::trt

#endif  // SRFLOW_TENSORRT_PLUGIN_H_
