// A library that looks like TensorRT to a plugin library: it has a version, a logger that keeps its last line, and a
// plugin registry that records the registered plugins.
#include <NvInferRuntime.h>

#include <string>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

std::string last_line;

struct Logger : nvinfer1::ILogger {
  void log(Severity severity, const char* message) noexcept override {
    last_line = (severity == Severity::kERROR ? "error: " : "other: ") + std::string(message);
  }
};

struct Finder : nvinfer1::ILoggerFinder {
  nvinfer1::ILogger* findLogger() override {
    static Logger logger;
    return &logger;
  }
};

struct Registry : nvinfer1::IPluginRegistry {
  bool registerCreator(nvinfer1::IPluginCreatorInterface& creator, const char* name_space) noexcept override {
    const auto& one = static_cast<nvinfer1::IPluginCreatorV3One&>(creator);
    registered += std::string(name_space) + "::" + one.getPluginName() + " " + one.getPluginVersion() + "\n";
    return true;
  }
  // Nothing asks for the rest.
  void setErrorRecorder(nvinfer1::IErrorRecorder*) noexcept override {}
  nvinfer1::IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
  bool isParentSearchEnabled() const override { return true; }
  void setParentSearchEnabled(bool) override {}
  PluginLibraryHandle loadLibrary(const char*) noexcept override { return nullptr; }
  void deregisterLibrary(PluginLibraryHandle) noexcept override {}
  nvinfer1::IPluginCreatorInterface* const* getAllCreators(int32_t*) const noexcept override { return nullptr; }
  nvinfer1::IPluginCreatorInterface* getCreator(const char*, const char*, const char*) noexcept override {
    return nullptr;
  }
  bool deregisterCreator(const nvinfer1::IPluginCreatorInterface&) noexcept override { return false; }
  nvinfer1::IPluginResource* acquirePluginResource(const char*, nvinfer1::IPluginResource*) noexcept override {
    return nullptr;
  }
  int32_t releasePluginResource(const char*) noexcept override { return 0; }
  nvinfer1::IPluginCreatorInterface* const* getAllCreatorsRecursive(int32_t*) noexcept override { return nullptr; }
#if NV_TENSORRT_MAJOR < 11
  bool registerCreator(nvinfer1::IPluginCreator&, const char*) noexcept override { return false; }
  nvinfer1::IPluginCreator* const* getPluginCreatorList(int32_t*) const noexcept override { return nullptr; }
  nvinfer1::IPluginCreator* getPluginCreator(const char*, const char*, const char*) noexcept override {
    return nullptr;
  }
  bool deregisterCreator(const nvinfer1::IPluginCreator&) noexcept override { return false; }
#endif

  std::string registered;
};

Registry& the_registry() {
  static Registry registry;
  return registry;
}

}  // namespace

EXPORTED nvinfer1::IPluginRegistry* getPluginRegistry() noexcept { return &the_registry(); }

EXPORTED const char* fake_registered() { return the_registry().registered.c_str(); }

EXPORTED int32_t getInferLibMajorVersion() noexcept {
#if defined(SRFLOW_OTHER_VERSION)
  return NV_TENSORRT_MAJOR + 1;
#else
  return NV_TENSORRT_MAJOR;
#endif
}

EXPORTED nvinfer1::ILoggerFinder* fake_finder() {
  static Finder finder;
  return &finder;
}

EXPORTED const char* fake_last_line() { return last_line.c_str(); }
