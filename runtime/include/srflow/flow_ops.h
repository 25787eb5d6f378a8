// The mathematics of the flow op, element by element, for every kernel: CPU, CUDA, TensorRT.
//
// All arithmetic is float32. T is the conditioning's type, float or Half; its values are widened before use.
// Tensors are contiguous, channels before pixels; a "pixel" is y·width + x. The same maths in torch:
// decoded_tail in export/srflow_export/flow_ops.py.
#ifndef SRFLOW_FLOW_OPS_H_
#define SRFLOW_FLOW_OPS_H_

#include "srflow/functions.h"

namespace srflow {

// How a coupling's raw output s becomes its affine scale: e^s, sigmoid(s + 2) + 1e-4, or e^(c·tanh(s/c)).
enum class ScaleMap { kExp, kSigmoid, kTanh };

// What encoding does first: h·scale + shift, or (h + shift)·scale.
enum class AffineOrder { kScaleFirst, kShiftFirst };

// Parse the attributes `scale_map` and `order` as the graph spells them; false for any other text.
inline bool parse_scale_map(const char* text, ScaleMap* scale_map) {
  if (strcmp(text, "exp") == 0) return *scale_map = ScaleMap::kExp, true;
  if (strcmp(text, "sigmoid") == 0) return *scale_map = ScaleMap::kSigmoid, true;
  if (strcmp(text, "tanh") == 0) return *scale_map = ScaleMap::kTanh, true;
  return false;
}
inline bool parse_order(const char* text, AffineOrder* order) {
  if (strcmp(text, "scale_first") == 0) return *order = AffineOrder::kScaleFirst, true;
  if (strcmp(text, "shift_first") == 0) return *order = AffineOrder::kShiftFirst, true;
  return false;
}

// FlowStepTail: what a decoding step does after its coupling's last convolution. `out` may be `h` itself if the kernel
// reads all channels of a pixel before it writes one. Sizes are in elements.
template <typename T>
struct FlowStepTailArgs {
  const float* h;                     // batch × channels × pixels
  const T* head;                      // batch × 2·(channels − channels/2) × pixels: [shift; s]
  const T* injector_scale;            // conditioning_batch × conditioning_channels × pixels
  const T* injector_shift;            // the same
  const float* mixing_weight;         // channels × channels: output, input
  const float* mixing_bias;           // channels
  float* out;                         // batch × channels × pixels
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t pixels;                // height · width
  std::int64_t conditioning_batch;    // 1 (for the whole batch) or batch
  std::int64_t conditioning_channels; // of the level's whole conditioning tensor
  std::int64_t begin;                 // this step's first channel in it
  float clamp;                        // c of the tanh map; the others ignore it
  bool channels_last = false;         // only CUDA: head is batch × pixels × its channels
  Half* h_a = nullptr;                // only CUDA, or null: h_A of out once more, batch × pixels × channels/2
};

// The factor by which decoding multiplies: 1/scale.
template <ScaleMap scale_map>
SRFLOW_HD float inverse_scale(float s, float clamp) {
  if (scale_map == ScaleMap::kExp) return exp_float(-s);
  if (scale_map == ScaleMap::kSigmoid) return 1.0f / (1.0f / (1.0f + exp_float(-(s + 2.0f))) + 1e-4f);
  return exp_float(-clamp * tanh_float(s / clamp));
}

// The coupling's inverse on one element of h_B: h/scale − shift, or (h − shift)/scale.
template <ScaleMap scale_map, AffineOrder order>
SRFLOW_HD float decoupled(float h, float shift, float s, float clamp) {
  const float multiplier = inverse_scale<scale_map>(s, clamp);
  return h * multiplier + (order == AffineOrder::kScaleFirst ? -shift * multiplier : -shift);
}

// One element of the mixing's input: the coupling's inverse (on h_B), then the injector's.
template <ScaleMap scale_map, AffineOrder order, typename T>
SRFLOW_HD float mixing_input(const FlowStepTailArgs<T>& args, std::int64_t sample, std::int64_t channel,
                             std::int64_t pixel) {
  const std::int64_t kept = args.channels / 2, changed = args.channels - kept;
  float h = args.h[(sample * args.channels + channel) * args.pixels + pixel];
  if (channel >= kept) {
    const T* shift = args.head + (sample * 2 * changed + channel - kept) * args.pixels + pixel;
    h = decoupled<scale_map, order>(h, static_cast<float>(shift[0]), static_cast<float>(shift[changed * args.pixels]),
                                    args.clamp);
  }
  const std::int64_t condition = args.conditioning_batch == 1 ? 0 : sample;
  const std::int64_t at = (condition * args.conditioning_channels + args.begin + channel) * args.pixels + pixel;
  return h * static_cast<float>(args.injector_scale[at]) + static_cast<float>(args.injector_shift[at]);
}

// One whole pixel; `x` has room for `channels` floats. This is the reference for all kernels.
template <ScaleMap scale_map, AffineOrder order, typename T>
SRFLOW_HD void flow_step_tail_pixel(const FlowStepTailArgs<T>& args, std::int64_t sample, std::int64_t pixel,
                                    float* x) {
  for (std::int64_t channel = 0; channel < args.channels; ++channel)
    x[channel] = mixing_input<scale_map, order>(args, sample, channel, pixel);
  for (std::int64_t output = 0; output < args.channels; ++output) {
    float sum = args.mixing_bias[output];
    for (std::int64_t input = 0; input < args.channels; ++input)
      sum += args.mixing_weight[output * args.channels + input] * x[input];
    args.out[(sample * args.channels + output) * args.pixels + pixel] = sum;
  }
}

}  // namespace srflow

#endif  // SRFLOW_FLOW_OPS_H_
