// libsrflow_trt: the functions that TensorRT's IPluginRegistry::loadLibrary looks for. They replace
// REGISTER_TENSORRT_PLUGIN: linking needs nothing from TensorRT, nothing happens until TensorRT asks, and an engine can
// contain the library (setPluginsToSerialize).
#include "creators.h"
#include "logging.h"
#include "srflow/srflow.h"

extern "C" SRFLOW_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { srflow::trt::set_logger_finder(finder); }

extern "C" SRFLOW_API nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
  return srflow::trt::creators(count);
}

int srflow_tensorrt_major(void) { return NV_TENSORRT_MAJOR; }

int srflow_plugins_abi(void) { return SRFLOW_PLUGINS_ABI; }
