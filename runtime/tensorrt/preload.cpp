// libsrflow_trt_preload: the same plugins for hosts that only open a plugin library, such as Triton's plugins=,
// trtexec's --staticPlugins and LD_PRELOAD. It registers them when it is opened. It is a separate library because
// loadLibrary refuses plugins that are already registered.
#include <dlfcn.h>

#include <string>

#include "creators.h"
#include "logging.h"

namespace {

#if NV_TENSORRT_MAJOR == 1
const std::string kTensorRT = "libtensorrt_rtx.so.1";
#else
const std::string kTensorRT = "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
#endif

// Opened by name and major version: it is already loaded or, with LD_PRELOAD, it will be. Never closed.
nvinfer1::IPluginRegistry* plugin_registry() {
  void* const library = dlopen(kTensorRT.c_str(), RTLD_LAZY);
  if (library == nullptr) return nullptr;
  using GetRegistry = nvinfer1::IPluginRegistry* (*)() noexcept;
  const auto get_registry = reinterpret_cast<GetRegistry>(dlsym(library, "getPluginRegistry"));
  return get_registry == nullptr ? nullptr : get_registry();
}

const bool registered = [] {
  nvinfer1::IPluginRegistry* const registry = plugin_registry();
  if (registry == nullptr) {
    srflow::trt::log_error("plugins are not registered: " + kTensorRT +
                           " cannot be loaded; put its folder on LD_LIBRARY_PATH, or build the plugins with the headers "
                           "of the TensorRT that is installed");
    return false;
  }
  std::int32_t count = 0;
  nvinfer1::IPluginCreatorInterface* const* const creators = srflow::trt::creators(count);
  bool all = true;
  for (std::int32_t i = 0; i < count; ++i) all = registry->registerCreator(*creators[i], "srflow") && all;
  if (!all)
    srflow::trt::log_error("some plugins are already registered; load libsrflow_trt or libsrflow_trt_preload, not both");
  return all;
}();

}  // namespace
