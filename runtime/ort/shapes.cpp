#include "ort/shapes.h"

namespace srflow::ort {

Axes input_axes(OrtShapeInferContext* context, std::size_t index) {
  const OrtApi& api = Ort::GetApi();
  OrtTensorTypeAndShapeInfo* info = nullptr;  // owned by the context
  Ort::ThrowOnError(api.ShapeInferContext_GetInputTypeShape(context, index, &info));
  std::size_t count = 0;
  Ort::ThrowOnError(api.GetDimensionsCount(info, &count));
  std::vector<std::int64_t> sizes(count);
  std::vector<const char*> names(count);
  Ort::ThrowOnError(api.GetDimensions(info, sizes.data(), count));
  Ort::ThrowOnError(api.GetSymbolicDimensions(info, names.data(), count));
  Axes axes(count);
  for (std::size_t axis = 0; axis < count; ++axis) axes[axis] = {sizes[axis], names[axis] ? names[axis] : ""};
  return axes;
}

void set_output_axes(OrtShapeInferContext* context, const Axes& axes) {
  std::vector<std::int64_t> sizes;
  std::vector<const char*> names;
  for (const Axis& axis : axes) {
    if (axis.size < 0 && axis.name.empty()) return;
    sizes.push_back(axis.size);
    names.push_back(axis.name.c_str());
  }
  const OrtApi& api = Ort::GetApi();
  OrtTensorTypeAndShapeInfo* info = nullptr;
  Ort::ThrowOnError(api.CreateTensorTypeAndShapeInfo(&info));
  const Ort::TensorTypeAndShapeInfo owner(info);
  Ort::ThrowOnError(api.SetTensorElementType(info, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT));
  Ort::ThrowOnError(api.SetDimensions(info, sizes.data(), sizes.size()));
  Ort::ThrowOnError(api.SetSymbolicDimensions(info, names.data(), names.size()));
  Ort::ThrowOnError(api.ShapeInferContext_SetOutputTypeShape(context, 0, info));
}

}  // namespace srflow::ort
