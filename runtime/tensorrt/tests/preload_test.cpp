// Opens libsrflow_trt_preload as Triton and trtexec open plugin libraries.
#include <dlfcn.h>
#include <gtest/gtest.h>

namespace {

TEST(Preload, RegistersAllPluginsAsItIsOpened) {
  // Its soname is that of TensorRT's library, which the preload library opens.
  void* const tensorrt = dlopen(SRFLOW_FAKE_TENSORRT_SAME, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(tensorrt, nullptr) << dlerror();
  ASSERT_NE(dlopen(SRFLOW_PRELOAD, RTLD_LAZY | RTLD_LOCAL), nullptr) << dlerror();
  const auto registered = reinterpret_cast<const char* (*)()>(dlsym(tensorrt, "fake_registered"));
  EXPECT_STREQ(registered(), "srflow::FlowStepTail 1\n");
}

}  // namespace
