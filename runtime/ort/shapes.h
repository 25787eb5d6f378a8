// Shapes that the graph knows before it runs, for shape inference.
#ifndef SRFLOW_ORT_SHAPES_H_
#define SRFLOW_ORT_SHAPES_H_

#include <string>
#include <vector>

#include "ort/api.h"

namespace srflow::ort {

// One axis: a size; or -1 and a name; or -1 and no name if nothing is known.
struct Axis {
  std::int64_t size = -1;
  std::string name;
};
using Axes = std::vector<Axis>;

// An input's axes; empty if even their number is unknown.
Axes input_axes(OrtShapeInferContext* context, std::size_t index);

// Sets the shape of output 0, float32, if every axis has a size or a name: ONNX Runtime cannot express an unknown axis.
// (Ort::ShapeInferContext::SetOutputShape in the headers of 1.21 marks named axes in a way that later runtimes refuse.)
void set_output_axes(OrtShapeInferContext* context, const Axes& axes);

}  // namespace srflow::ort

#endif  // SRFLOW_ORT_SHAPES_H_
