// Where the custom op runs. On the CPU, it uses the session's threads.
#ifndef SRFLOW_ORT_DEVICES_H_
#define SRFLOW_ORT_DEVICES_H_

#include <string>

#include "cpu/kernels.h"
#include "ort/bindings.h"
#if defined(SRFLOW_WITH_CUDA)
#include "srflow/cuda_kernels.h"
#endif

namespace srflow::ort {

struct Cpu {
  static constexpr const char* kProvider = nullptr;

  template <typename T>
  static void run(const Ort::KernelContext& context, const FlowStepTailArgs<T>& args,
                  const TailAttributes& attributes) {
    cpu::flow_step_tail(args, attributes.scale_map, attributes.order, threads(context));
  }

 private:
  static cpu::ParallelFor threads(const Ort::KernelContext& context) {
    const auto run = [](void* pool, void (*task)(void*, std::size_t), std::size_t count, void* data) {
      static_cast<const Ort::KernelContext*>(pool)->ParallelFor(task, count, 0, data);
    };
    return {run, const_cast<Ort::KernelContext*>(&context)};
  }
};

#if defined(SRFLOW_WITH_CUDA)
struct Cuda {
  static constexpr const char* kProvider = "CUDAExecutionProvider";

  template <typename T>
  static void run(const Ort::KernelContext& context, const FlowStepTailArgs<T>& args,
                  const TailAttributes& attributes) {
    check(launch_flow_step_tail(args, attributes.scale_map, attributes.order, context.GetGPUComputeStream()));
  }

 private:
  static void check(int error) {
    if (error != 0)
      throw Ort::Exception(std::string("srflow: CUDA refuses the kernel: ") + cuda_error_text(error), ORT_EP_FAIL);
  }
};
#endif

}  // namespace srflow::ort

#endif  // SRFLOW_ORT_DEVICES_H_
