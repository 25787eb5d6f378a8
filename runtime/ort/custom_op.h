// The flow op as a custom op of ONNX Runtime, for each device and conditioning type.
#ifndef SRFLOW_ORT_CUSTOM_OP_H_
#define SRFLOW_ORT_CUSTOM_OP_H_

#include <exception>
#include <string>

#include "ort/bindings.h"
#include "ort/shapes.h"
#include "srflow/checks.h"

namespace srflow::ort {

// Runs work and returns what it throws as a status, because no exception may reach ONNX Runtime.
template <typename Work>
OrtStatusPtr status_of(const Work& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const Ort::Exception& error) {
    return Ort::GetApi().CreateStatus(error.GetOrtErrorCode(), error.what());
  } catch (const Refusal& refusal) {
    return Ort::GetApi().CreateStatus(ORT_INVALID_ARGUMENT, (std::string("srflow: ") + refusal.what()).c_str());
  } catch (const std::exception& error) {
    return Ort::GetApi().CreateStatus(ORT_RUNTIME_EXCEPTION, error.what());
  }
}

template <typename T>
constexpr ONNXTensorElementDataType kElementType = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
template <>
constexpr ONNXTensorElementDataType kElementType<Half> = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;

// Device has kProvider (nullptr: CPU) and run(context, args, attributes).
template <typename T, typename Device>
class Kernel {
 public:
  explicit Kernel(const OrtKernelInfo* info) : attributes_(info) {}

  OrtStatusPtr ComputeV2(OrtKernelContext* context) const {
    return status_of([&] {
      const Ort::KernelContext kernel_context(context);
      Device::run(kernel_context, bind_tail<T>(kernel_context, attributes_), attributes_);
    });
  }

 private:
  TailAttributes attributes_;
};

template <typename T, typename Device>
class FlowStepTail : public Ort::CustomOpBase<FlowStepTail<T, Device>, Kernel<T, Device>, true> {
 public:
  FlowStepTail() {
    OrtCustomOp::version = kApiVersion;
    // Height and width come from the conditioning, a graph input whose axes have names; h may have lost its names.
    OrtCustomOp::InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) {
      return status_of([&] {
        Axes axes = input_axes(context, 0);
        const Axes scale = input_axes(context, 2);
        if (axes.size() == 4 && scale.size() == 4) axes = {axes[0], axes[1], scale[2], scale[3]};
        if (!axes.empty()) set_output_axes(context, axes);
      });
    };
    // Every kernel reads a whole pixel before it writes it.
    OrtCustomOp::GetMayInplace = [](int** input_index, int** output_index) -> std::size_t {
      *input_index = new int[1]{0};
      *output_index = new int[1]{0};
      return 1;
    };
    OrtCustomOp::ReleaseMayInplace = [](int* input_index, int* output_index) {
      delete[] input_index;
      delete[] output_index;
    };
  }

  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
    return status_of([&] { *kernel = new Kernel<T, Device>(info); });
  }

  const char* GetName() const { return "FlowStepTail"; }
  const char* GetExecutionProviderType() const { return Device::kProvider; }
  std::size_t GetInputTypeCount() const { return 6; }
  std::size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(std::size_t) const { return kElementType<float>; }
  ONNXTensorElementDataType GetInputType(std::size_t index) const {
    const bool is_conditioning = index >= 1 && index <= 3;
    return is_conditioning ? kElementType<T> : kElementType<float>;
  }
};

}  // namespace srflow::ort

#endif  // SRFLOW_ORT_CUSTOM_OP_H_
