// A stand-in for the CUDA launcher that records its arguments.
#ifndef SRFLOW_TENSORRT_TESTS_FAKE_LAUNCHERS_H_
#define SRFLOW_TENSORRT_TESTS_FAKE_LAUNCHERS_H_

#include "srflow/flow_ops.h"

namespace srflow::trt {

struct Launches {
  int tails = 0, half_tails = 0;
  bool half_tail_last = false;
  const void* half_tail_h_a = nullptr;
  FlowStepTailArgs<float> tail;
  ScaleMap scale_map;
  AffineOrder order;
  void* stream;
  int result = 0;  // what it returns
};
extern Launches launches;

}  // namespace srflow::trt

#endif  // SRFLOW_TENSORRT_TESTS_FAKE_LAUNCHERS_H_
