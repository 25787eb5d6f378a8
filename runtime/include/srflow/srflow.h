/* The C interface of libsrflow_ort and libsrflow_trt: latents without Python, and the library's version. */
#ifndef SRFLOW_SRFLOW_H_
#define SRFLOW_SRFLOW_H_

#include <stdint.h>

#define SRFLOW_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0": the version of srflow-sdk that this library was built from. */
SRFLOW_API const char* srflow_version(void);

/* The major version of the TensorRT that this library's plugins are for, such as 10. Only in libsrflow_trt. */
SRFLOW_API int srflow_tensorrt_major(void);

/* The number of what engines and plugins share, likewise. Raise it when an engine that was built with the plugins of
 * before cannot run with these: when one goes, or its fields, inputs or outputs change. */
#define SRFLOW_PLUGINS_ABI 4
SRFLOW_API int srflow_plugins_abi(void);

/* A window of the standard normal latent field, scheme 1 (srflow_sdk/latents/random_field.py): out is channels × height × width
 * floats in C order. seed, sample: any. level: 1 … 63. channels: 1 … 65536, from channel 0 on. top, left: the window in
 * the level's own latent pixels; coordinates are 0 … 2^32 − 1. Returns 0, or 1 if an argument is out of range, or out
 * would have more bytes than a PTRDIFF_MAX counts; then nothing is written. Thread-safe. */
SRFLOW_API int srflow_standard_normal(uint64_t seed, uint64_t sample, int level, int channels, int64_t top,
                                      int64_t left, int64_t height, int64_t width, float* out);

/* The same bits, computed on the GPU. device_out is device memory. The work is queued on stream (a cudaStream_t; NULL:
 * the default one), and the call does not wait for it. Also returns 1 for a null device_out, and 2 if CUDA refuses the
 * launch. Only in libraries built with CUDA. */
SRFLOW_API int srflow_standard_normal_cuda(uint64_t seed, uint64_t sample, int level, int channels, int64_t top,
                                           int64_t left, int64_t height, int64_t width, float* device_out,
                                           void* stream);

#ifdef __cplusplus
}
#endif

#endif /* SRFLOW_SRFLOW_H_ */
