#include "creators.h"

#include "plugin.h"

namespace srflow::trt {

nvinfer1::IPluginCreatorInterface* const* creators(std::int32_t& count) {
  static Creator creator;
  static nvinfer1::IPluginCreatorInterface* const all[] = {&creator};
  count = 1;
  return all;
}

}  // namespace srflow::trt
