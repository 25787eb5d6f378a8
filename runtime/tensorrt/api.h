// TensorRT's headers, 10.x or 11.x. A library is compiled for one major version, like TensorRT's own plugins. From
// 10.15 on, TensorRT's parser runs plugins as docs/native.md describes.
#ifndef SRFLOW_TENSORRT_API_H_
#define SRFLOW_TENSORRT_API_H_

#include <NvInferRuntime.h>

static_assert(NV_TENSORRT_MAJOR >= 10 || NV_TENSORRT_MAJOR == 1,
              "the plugins need the headers of TensorRT 10 or 11 (or of TensorRT-RTX 1)");

#endif  // SRFLOW_TENSORRT_API_H_
