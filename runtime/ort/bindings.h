// The arguments of the flow op from ONNX Runtime's kernel context: attributes, checked shapes, pointers.
#ifndef SRFLOW_ORT_BINDINGS_H_
#define SRFLOW_ORT_BINDINGS_H_

#include "ort/api.h"
#include "srflow/flow_ops.h"

namespace srflow::ort {

struct TailAttributes {
  ScaleMap scale_map;
  AffineOrder order;
  float clamp;
  std::int64_t begin, end;

  // Throws Ort::Exception for a missing attribute, Refusal for an invalid one.
  explicit TailAttributes(const OrtKernelInfo* info);
};

// The arguments, with the output allocated. Throws Refusal, naming the input, if shapes do not fit together.
template <typename T>
FlowStepTailArgs<T> bind_tail(const Ort::KernelContext& context, const TailAttributes& attributes);

}  // namespace srflow::ort

#endif  // SRFLOW_ORT_BINDINGS_H_
