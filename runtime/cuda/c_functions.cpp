#include "c_functions.h"

#include "srflow/cuda_kernels.h"

namespace {

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue

template <typename T>
const T* as(const void* tensor) {
  return static_cast<const T*>(tensor);
}

}  // namespace

int srflow_flow_step_tail_cuda(const float* h, const void* head, const void* injector_scale, const void* injector_shift,
                               const float* mixing_weight, const float* mixing_bias, float* out, int half,
                               int64_t batch, int64_t channels, int64_t pixels, int64_t conditioning_batch,
                               int64_t conditioning_channels, int64_t begin, const char* scale_map, const char* order,
                               float clamp, void* stream) {
  srflow::ScaleMap map;
  srflow::AffineOrder affine_order;
  if (scale_map == nullptr || order == nullptr) return kInvalidValue;
  if (!srflow::parse_scale_map(scale_map, &map) || !srflow::parse_order(order, &affine_order)) return kInvalidValue;
  const auto launch = [&](auto element) {
    using T = decltype(element);
    return srflow::launch_flow_step_tail(
        srflow::FlowStepTailArgs<T>{h, as<T>(head), as<T>(injector_scale), as<T>(injector_shift), mixing_weight,
                                    mixing_bias, out, batch, channels, pixels, conditioning_batch,
                                    conditioning_channels, begin, clamp},
        map, affine_order, stream);
  };
  return half ? launch(srflow::Half{}) : launch(0.0f);
}
