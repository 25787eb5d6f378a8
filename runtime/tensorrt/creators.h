// What both libraries register.
#ifndef SRFLOW_TENSORRT_CREATORS_H_
#define SRFLOW_TENSORRT_CREATORS_H_

#include "api.h"

namespace srflow::trt {

// The plugins' creators; they live as long as the library.
nvinfer1::IPluginCreatorInterface* const* creators(std::int32_t& count);

}  // namespace srflow::trt

#endif  // SRFLOW_TENSORRT_CREATORS_H_
