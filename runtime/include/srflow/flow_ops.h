// The mathematics of the flow ops, element by element, for every kernel: CPU, CUDA, TensorRT.
//
// All arithmetic is float32. T is the conditioning's type, float or Half; its values are widened before use.
// Tensors are contiguous, channels before pixels; a "pixel" is y·width + x. The same maths in torch: AffineInverse,
// _StepSampler and _LevelSampler in export/srflow_export/graphs.py.
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
  return exp_float(-bounded(s, clamp));
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

// UnsqueezeSplit: the unsqueeze that ends a level's decoding and the split that begins the next finer one's.
template <typename T>
struct UnsqueezeSplitArgs {
  const float* h;              // batch × 4·kept × height/2 × width/2
  const T* head;               // batch × 2·drawn × height × width: [mean; logs]
  const float* noise;          // batch × drawn × height × width
  const float* tau;            // tau_batch
  float* out;                  // batch × (kept + drawn) × height × width
  std::int64_t batch;
  std::int64_t kept;           // channels after the unsqueeze
  std::int64_t drawn;          // channels that the split adds
  std::int64_t height, width;  // of the output, both even
  std::int64_t tau_batch;      // 1 (for the whole batch) or batch
  float bound;                 // of logs; 0: unbounded
  bool channels_last = false;  // only CUDA: head is batch × height × width × 2·drawn
};

// Where an element of the unsqueezed tensor (sample, channel < kept, y, x) is in h: channel 4c + 2·(y%2) + x%2 at
// (y/2, x/2). PixelShuffle(2); ONNX's DepthToSpace in mode CRD.
template <typename T>
SRFLOW_HD std::int64_t unsqueeze_source(const UnsqueezeSplitArgs<T>& args, std::int64_t sample, std::int64_t channel,
                                        std::int64_t y, std::int64_t x) {
  const std::int64_t from = (sample * args.kept + channel) * 4 + 2 * (y & 1) + (x & 1);
  return (from * (args.height / 2) + y / 2) * (args.width / 2) + x / 2;
}

// One element that the split adds: mean + exp(bounded logs)·(tau·noise).
SRFLOW_HD float drawn_value(float mean, float logs, float tau, float noise, float bound) {
  return mean + exp_float(bounded(logs, bound)) * (tau * noise);
}

// One element of the output. This is the reference for all kernels.
template <typename T>
SRFLOW_HD float unsqueeze_split_value(const UnsqueezeSplitArgs<T>& args, std::int64_t sample, std::int64_t channel,
                                      std::int64_t y, std::int64_t x) {
  if (channel < args.kept) return args.h[unsqueeze_source(args, sample, channel, y, x)];
  const std::int64_t pixels = args.height * args.width, pixel = y * args.width + x, drawn = channel - args.kept;
  const T* mean = args.head + (sample * 2 * args.drawn + drawn) * pixels + pixel;
  return drawn_value(static_cast<float>(mean[0]), static_cast<float>(mean[args.drawn * pixels]),
                     args.tau[args.tau_batch == 1 ? 0 : sample],
                     args.noise[(sample * args.drawn + drawn) * pixels + pixel], args.bound);
}

}  // namespace srflow

#endif  // SRFLOW_FLOW_OPS_H_
