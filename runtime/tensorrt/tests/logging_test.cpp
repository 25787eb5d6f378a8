#include "logging.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace {

// Gives the plugins the finder of one of the fake libraries; returns a function that reads its logger's last line.
const char* (*use_logger_of(const char* library))() {
  void* const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  EXPECT_NE(handle, nullptr) << dlerror();
  const auto finder = reinterpret_cast<nvinfer1::ILoggerFinder* (*)()>(dlsym(handle, "fake_finder"));
  srflow::trt::set_logger_finder(finder());
  return reinterpret_cast<const char* (*)()>(dlsym(handle, "fake_last_line"));
}

TEST(Logging, GoesToTheLoggerOfTheSameVersion) {
  const auto last_line = use_logger_of(SRFLOW_FAKE_TENSORRT_SAME);
  srflow::trt::log_error("one");
  EXPECT_STREQ(last_line(), "error: srflow: one");
  srflow::trt::set_logger_finder(nullptr);
  srflow::trt::log_error("two");
  EXPECT_STREQ(last_line(), "error: srflow: two");
  use_logger_of(SRFLOW_FAKE_TENSORRT_OTHER);  // the following tests log to stderr again
}

TEST(Logging, NeverCallsALoggerOfAnotherVersion) {
  const auto last_line = use_logger_of(SRFLOW_FAKE_TENSORRT_OTHER);
  testing::internal::CaptureStderr();
  srflow::trt::log_error("three");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "srflow: three\n");
  EXPECT_STREQ(last_line(), "");
}

}  // namespace
