// TensorRT's headers, 10.x or 11.x. A library is compiled for one major version, as TensorRT's own plugins are; its
// parser runs plugins as docs/native.md says from 10.15 on.
#ifndef SRFLOW_TENSORRT_API_H_
#define SRFLOW_TENSORRT_API_H_

#include <NvInferRuntime.h>

static_assert(NV_TENSORRT_MAJOR >= 10 || NV_TENSORRT_MAJOR == 1,
              "the plugins need the headers of TensorRT 10 or 11 (or of TensorRT-RTX 1)");

#endif  // SRFLOW_TENSORRT_API_H_
