// One line to TensorRT's log for every refusal.
#ifndef SRFLOW_TENSORRT_LOGGING_H_
#define SRFLOW_TENSORRT_LOGGING_H_

#include <string>

#include "api.h"

namespace srflow::trt {

// Remembers whom TensorRT names as the one who finds its logger; a null pointer is ignored.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Logs as an error, with "srflow: " before it: to TensorRT's logger, or to stderr where there is none to be called.
void log_error(const std::string& message) noexcept;

}  // namespace srflow::trt

#endif  // SRFLOW_TENSORRT_LOGGING_H_
