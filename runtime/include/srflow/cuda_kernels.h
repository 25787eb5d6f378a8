// The launcher of the CUDA kernel, which the ONNX Runtime library and the TensorRT plugin call. T: float or Half.
//
// Pointers are device memory. The work is queued on `stream` (a cudaStream_t), and the call does not wait for it. It
// returns a cudaError_t, 0 on success. This header needs no CUDA headers.
#ifndef SRFLOW_CUDA_KERNELS_H_
#define SRFLOW_CUDA_KERNELS_H_

#include "srflow/flow_ops.h"

namespace srflow {

template <typename T>
int launch_flow_step_tail(const FlowStepTailArgs<T>& args, ScaleMap scale_map, AffineOrder order, void* stream);

extern template int launch_flow_step_tail(const FlowStepTailArgs<float>&, ScaleMap, AffineOrder, void*);
extern template int launch_flow_step_tail(const FlowStepTailArgs<Half>&, ScaleMap, AffineOrder, void*);

// CUDA's message for what the launcher returned.
const char* cuda_error_text(int error);

}  // namespace srflow

#endif  // SRFLOW_CUDA_KERNELS_H_
