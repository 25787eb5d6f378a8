// What TensorRT needs to know about the flow op. plugin.h turns it into a plugin.
//
// Unknown extents are −1, as in TensorRT; they fit anything.
#ifndef SRFLOW_TENSORRT_OPS_H_
#define SRFLOW_TENSORRT_OPS_H_

#include <string>
#include <vector>

#include "fields.h"
#include "srflow/flow_ops.h"

namespace srflow::trt {

// Names, types and addresses of the op's attributes. For a creator, the addresses are null.
using FieldList = std::vector<nvinfer1::PluginField>;

class FlowStepTail {
 public:
  static constexpr const char* kName = "FlowStepTail";
  static constexpr int kInputs = 6;
  static constexpr int kHead = 1;  // the input that a convolution writes
  static FieldList field_names();

  // Throws Refusal for invalid attributes.
  explicit FlowStepTail(const Fields& fields);

  // Whether this input has the conditioning's type, float32 or float16; the others are float32.
  static constexpr bool is_conditioning(int input) { return input >= 1 && input <= 3; }
  // 1, or 2 by the attribute h_a: then also out's first ⌊C/2⌋ channels as float16, N × H × W × ⌊C/2⌋, which the next
  // coupling reads. By channels_last, the head is N × H × W × C, too. Both are of engines: srflow_export/engines/graphs.py.
  std::int32_t outputs() const { return 1 + h_a_; }
  // The attributes again, for an engine; addresses are inside this object.
  FieldList fields() const;
  // What the kernel's time depends on, besides shapes and types. Without begin and end, so that steps share timings.
  std::string timing_id() const { return scale_map_ + "," + order_ + (h_a_ ? ",h_a" : "") + (channels_last_ ? ",last" : ""); }
  std::string description() const;
  // Throws Refusal, naming the input, if shapes do not fit each other or the attributes.
  void check(const nvinfer1::Dims* inputs) const;
  void output_shapes(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs,
                     nvinfer1::IExprBuilder& builder) const;
  // shapes: of the inputs. Returns a cudaError_t. T: the conditioning's type, float or Half.
  template <typename T>
  int launch(const nvinfer1::PluginTensorDesc* shapes, const void* const* inputs, void* const* outputs,
             void* stream) const;

 private:
  std::string scale_map_, order_;
  ScaleMap map_;
  AffineOrder affine_order_;
  float clamp_;
  std::int32_t begin_, end_, channels_last_, h_a_;
};

}  // namespace srflow::trt

#endif  // SRFLOW_TENSORRT_OPS_H_
