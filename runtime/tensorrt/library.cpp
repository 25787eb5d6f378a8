// What TensorRT looks for in a plugin library. These two functions instead of REGISTER_TENSORRT_PLUGIN: nothing of
// TensorRT is needed to link, and nothing happens until TensorRT asks.
#include "plugin.h"
#include "srflow/srflow.h"

extern "C" SRFLOW_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  srflow::trt::set_logger_finder(finder);
}

extern "C" SRFLOW_API nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
  static srflow::trt::Creator<srflow::trt::FlowStepTail> flow_step_tail;
  static srflow::trt::Creator<srflow::trt::UnsqueezeSplit> unsqueeze_split;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&flow_step_tail, &unsqueeze_split};
  count = 2;
  return creators;
}
