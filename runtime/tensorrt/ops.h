// What TensorRT needs to know about each flow op. plugin.h turns it into a plugin.
//
// Unknown extents are −1, as in TensorRT; they fit anything.
#ifndef SRFLOW_TENSORRT_OPS_H_
#define SRFLOW_TENSORRT_OPS_H_

#include <string>
#include <vector>

#include "fields.h"
#include "srflow/flow_ops.h"

namespace srflow::trt {

// Names, types and addresses of an op's attributes. For a creator, the addresses are null.
using FieldList = std::vector<nvinfer1::PluginField>;

constexpr int kHead = 1;  // the input that a convolution writes, the first of the conditioning, in both ops

class FlowStepTail {
 public:
  static constexpr const char* kName = "FlowStepTail";
  static constexpr int kInputs = 6;
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

// One for each split of a network, which every sample pays: without it TensorRT-RTX's builder takes a kernel and 19 MB
// more, of 32 and 785 MB with two steps a level at ×4 (tests/native/builders_list.py).
class UnsqueezeSplit {
 public:
  static constexpr const char* kName = "UnsqueezeSplit";
  static constexpr int kInputs = 4;
  static FieldList field_names();

  explicit UnsqueezeSplit(const Fields& fields);

  static constexpr bool is_conditioning(int input) { return input == 1; }
  std::int32_t outputs() const { return 1; }
  FieldList fields() const;
  std::string timing_id() const { return (bound_ == 0.0f ? "free" : "bounded") + std::string(channels_last_ ? ",last" : ""); }
  std::string description() const;
  void check(const nvinfer1::Dims* inputs) const;
  void output_shapes(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs,
                     nvinfer1::IExprBuilder& builder) const;
  template <typename T>
  int launch(const nvinfer1::PluginTensorDesc* shapes, const void* const* inputs, void* const* outputs,
             void* stream) const;

 private:
  float bound_;
  std::int32_t channels_last_;
};

}  // namespace srflow::trt

#endif  // SRFLOW_TENSORRT_OPS_H_
