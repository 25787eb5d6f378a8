// A library that looks to a plugin like TensorRT's: it has a version and a logger, which keeps its last line.
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

}  // namespace

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
