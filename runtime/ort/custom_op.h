// One custom op of ONNX Runtime for each flow op, device and conditioning type.
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

// How the two ops differ. kConditioned: a bit for each input of the conditioning's type.
template <typename T>
struct FlowStepTail {
  using Attributes = TailAttributes;
  static constexpr const char* kName = "FlowStepTail";
  static constexpr std::size_t kInputs = 6;
  static constexpr unsigned kConditioned = 0b001110;
  static constexpr bool kInPlace = true;  // every kernel reads a whole pixel before it writes it

  // Height and width come from the conditioning, a graph input whose axes have names; h may have lost its names.
  static Axes output_axes(OrtShapeInferContext* context) {
    const Axes h = input_axes(context, 0), scale = input_axes(context, 2);
    return h.size() == 4 && scale.size() == 4 ? Axes{h[0], h[1], scale[2], scale[3]} : h;
  }
  static FlowStepTailArgs<T> bind(const Ort::KernelContext& context, const Attributes& attributes) {
    return bind_tail<T>(context, attributes);
  }
};

template <typename T>
struct UnsqueezeSplit {
  using Attributes = SplitAttributes;
  static constexpr const char* kName = "UnsqueezeSplit";
  static constexpr std::size_t kInputs = 4;
  static constexpr unsigned kConditioned = 0b0010;
  static constexpr bool kInPlace = false;

  // Batch, height and width are the noise's.
  static Axes output_axes(OrtShapeInferContext* context) {
    const Axes h = input_axes(context, 0), noise = input_axes(context, 2);
    if (h.size() != 4 || noise.size() != 4 || h[1].size < 0 || noise[1].size < 0) return {};
    return {noise[0], {h[1].size / 4 + noise[1].size, ""}, noise[2], noise[3]};
  }
  static UnsqueezeSplitArgs<T> bind(const Ort::KernelContext& context, const Attributes& attributes) {
    return bind_split<T>(context, attributes);
  }
};

// Device has kProvider (nullptr: CPU), kInPlace and run(context, args, attributes).
template <typename Op, typename Device>
class Kernel {
 public:
  explicit Kernel(const OrtKernelInfo* info) : attributes_(info) {}

  OrtStatusPtr ComputeV2(OrtKernelContext* context) const {
    return status_of([&] {
      const Ort::KernelContext kernel_context(context);
      Device::run(kernel_context, Op::bind(kernel_context, attributes_), attributes_);
    });
  }

 private:
  typename Op::Attributes attributes_;
};

template <template <typename> class OpFor, typename T, typename Device>
class CustomOp : public Ort::CustomOpBase<CustomOp<OpFor, T, Device>, Kernel<OpFor<T>, Device>, true> {
  using Op = OpFor<T>;

 public:
  CustomOp() {
    OrtCustomOp::version = kApiVersion;
    OrtCustomOp::InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) {
      return status_of([&] {
        const Axes axes = Op::output_axes(context);
        if (!axes.empty()) set_output_axes(context, axes);
      });
    };
    if (Op::kInPlace && Device::kInPlace) {
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
  }

  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
    return status_of([&] { *kernel = new Kernel<Op, Device>(info); });
  }

  const char* GetName() const { return Op::kName; }
  const char* GetExecutionProviderType() const { return Device::kProvider; }
  std::size_t GetInputTypeCount() const { return Op::kInputs; }
  std::size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(std::size_t) const { return kElementType<float>; }
  ONNXTensorElementDataType GetInputType(std::size_t index) const {
    return Op::kConditioned >> index & 1 ? kElementType<T> : kElementType<float>;
  }
};

}  // namespace srflow::ort

#endif  // SRFLOW_ORT_CUSTOM_OP_H_
