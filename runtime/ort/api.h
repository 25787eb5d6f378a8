// ONNX Runtime's C++ API in the version that we request. It is not the newest that the headers have, so that a library
// built with new headers loads in an older runtime.
#ifndef SRFLOW_ORT_API_H_
#define SRFLOW_ORT_API_H_

#include <cstdint>

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>

namespace srflow::ort {

constexpr std::uint32_t kApiVersion = 20;  // ONNX Runtime 1.20, the oldest that srflow-sdk supports
static_assert(ORT_API_VERSION >= kApiVersion, "the custom ops need the headers of ONNX Runtime 1.20 or newer");

}  // namespace srflow::ort

#endif  // SRFLOW_ORT_API_H_
