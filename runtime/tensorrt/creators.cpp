#include "creators.h"

#include "plugin.h"

namespace srflow::trt {

nvinfer1::IPluginCreatorInterface* const* creators(std::int32_t& count) {
  static Creator<FlowStepTail> flow_step_tail;
  static Creator<UnsqueezeSplit> unsqueeze_split;
  static nvinfer1::IPluginCreatorInterface* const all[] = {&flow_step_tail, &unsqueeze_split};
  count = 2;
  return all;
}

}  // namespace srflow::trt
