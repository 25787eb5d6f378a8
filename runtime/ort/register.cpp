// The entry point that ONNX Runtime looks for in a custom-op library.
#include "ort/custom_op.h"
#include "ort/devices.h"
#include "srflow/srflow.h"

namespace {

using namespace srflow;
using namespace srflow::ort;

template <typename Device>
void add_ops(Ort::CustomOpDomain& domain) {
  static const FlowStepTail<float, Device> op;
  static const FlowStepTail<Half, Device> half_op;
  domain.Add(&op);
  domain.Add(&half_op);
}

// One domain for all sessions. It is never destroyed, because sessions may outlive this library's static objects.
const Ort::CustomOpDomain& domain() {
  static const Ort::CustomOpDomain* const created = [] {
    auto* made = new Ort::CustomOpDomain("srflow");
    add_ops<Cpu>(*made);
#if defined(SRFLOW_WITH_CUDA)
    add_ops<Cuda>(*made);
#endif
    return made;
  }();
  return *created;
}

}  // namespace

extern "C" SRFLOW_API OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) {
    return base->GetApi(1)->CreateStatus(ORT_FAIL,
                                         "srflow: this library needs ONNX Runtime 1.20 or newer; upgrade onnxruntime");
  }
  Ort::InitApi(api);
  return status_of([&] { Ort::UnownedSessionOptions(options).Add(domain()); });
}
