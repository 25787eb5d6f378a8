/* libsrflow_cuda: the flow op's CUDA kernel as a C function (and the latents of srflow/srflow.h).
 *
 * Pointers are device memory, tensors contiguous; `half` says that the conditioning (head, injector_scale,
 * injector_shift) is float16; otherwise it is float32 like all others. The op is defined in srflow/flow_ops.h. The
 * work is queued on `stream` (a cudaStream_t; NULL: the default one), and the call does not wait for it. Returns a
 * cudaError_t, 0 on success; also 1 (cudaErrorInvalidValue) for sizes that do not fit together, for an unknown or NULL
 * text, and for more channels than fit the GPU's shared memory (414 on the smallest, sm_75). */
#ifndef SRFLOW_CUDA_C_FUNCTIONS_H_
#define SRFLOW_CUDA_C_FUNCTIONS_H_

#include "srflow/srflow.h"

#ifdef __cplusplus
extern "C" {
#endif

/* h, out: batch × channels × pixels, and may be the same; head: batch × 2·⌈channels/2⌉ × pixels; injector_scale,
 * injector_shift: conditioning_batch × conditioning_channels × pixels, where this step's channels begin at `begin`;
 * mixing_weight: channels × channels; mixing_bias: channels. scale_map: "exp", "sigmoid" or "tanh". order:
 * "scale_first" or "shift_first". */
SRFLOW_API int srflow_flow_step_tail_cuda(const float* h, const void* head, const void* injector_scale,
                                          const void* injector_shift, const float* mixing_weight,
                                          const float* mixing_bias, float* out, int half, int64_t batch,
                                          int64_t channels, int64_t pixels, int64_t conditioning_batch,
                                          int64_t conditioning_channels, int64_t begin, const char* scale_map,
                                          const char* order, float clamp, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* SRFLOW_CUDA_C_FUNCTIONS_H_ */
