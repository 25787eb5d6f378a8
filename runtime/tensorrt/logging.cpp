#include "logging.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdio>

namespace srflow::trt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

// Whether the library that made `finder` has the major version of the headers that this file was compiled with.
// ILoggerFinder and ILogger have different virtual functions in TensorRT 11 and in 10 (the interfaces of plugins do
// not), so a call to another version would jump to the wrong function. trtexec and Triton load whatever file they are
// given, and the tests load a library of TensorRT 10's headers into TensorRT-RTX.
bool speaks_our_version(nvinfer1::ILoggerFinder* finder) {
  const void* const its_functions = *reinterpret_cast<void**>(finder);
  Dl_info where;
  if (dladdr(its_functions, &where) == 0) return false;
  void* const library = dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  using MajorVersion = int32_t (*)() noexcept;
  const auto major_version = reinterpret_cast<MajorVersion>(dlsym(library, "getInferLibMajorVersion"));
  const bool same = major_version != nullptr && major_version() == NV_TENSORRT_MAJOR;
  dlclose(library);
  return same;
}

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept {
  if (finder != nullptr) logger_finder = speaks_our_version(finder) ? finder : nullptr;
}

void log_error(const std::string& message) noexcept {
  nvinfer1::ILoggerFinder* const finder = logger_finder;
  nvinfer1::ILogger* const logger = finder == nullptr ? nullptr : finder->findLogger();
  if (logger == nullptr) {
    std::fprintf(stderr, "srflow: %s\n", message.c_str());
    return;
  }
  try {
    logger->log(nvinfer1::ILogger::Severity::kERROR, ("srflow: " + message).c_str());
  } catch (const std::bad_alloc&) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, message.c_str());
  }
}

}  // namespace srflow::trt
