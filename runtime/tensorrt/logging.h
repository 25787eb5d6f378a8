// Writes one line to TensorRT's log for every refusal.
#ifndef SRFLOW_TENSORRT_LOGGING_H_
#define SRFLOW_TENSORRT_LOGGING_H_

#include <string>

#include "api.h"

namespace srflow::trt {

// Stores the object with which TensorRT finds its logger; a null pointer is ignored.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Logs an error, prefixed with "srflow: ", to TensorRT's logger, or to stderr if there is none that can be called.
void log_error(const std::string& message) noexcept;

}  // namespace srflow::trt

#endif  // SRFLOW_TENSORRT_LOGGING_H_
