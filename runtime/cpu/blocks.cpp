// The kernels on one block, compiled once per instruction set (SRFLOW_VARIANT names it).
//
// Do not use the standard library here: the linker could use its inline functions, compiled for newer processors, in
// the whole program.
#include "cpu/kernels.h"

namespace srflow::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;  // SSE2, NEON
#endif
typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef float VectorInMemory __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

SRFLOW_HD Vector load(const float* from) { return *reinterpret_cast<const VectorInMemory*>(from); }
SRFLOW_HD void store(float* to, Vector value) { *reinterpret_cast<VectorInMemory*>(to) = value; }

constexpr int kVectors = 2;  // vectors of pixels held in registers at a time
constexpr int kRows = 6;     // output channels held at a time: 12 sums, 2 inputs and a weight fit 16 registers
static_assert(kTile % (kVectors * kLanes) == 0, "a tile is a whole number of register blocks");

// x: the mixing's input in one channel of the block, for channels that the coupling did not change (h_A).
template <typename T>
void inject(const float* __restrict h, const T* __restrict scale, const T* __restrict shift, std::int64_t count,
            float* __restrict x) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = h[i] * static_cast<float>(scale[i]) + static_cast<float>(shift[i]);
}

// The same for channels that the coupling changed (h_B).
template <ScaleMap scale_map, AffineOrder order, typename T>
void decouple_and_inject(const float* __restrict h, const T* __restrict head_shift, const T* __restrict head_s,
                         const T* __restrict scale, const T* __restrict shift, float clamp, std::int64_t count,
                         float* __restrict x) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float decoded = decoupled<scale_map, order>(h[i], static_cast<float>(head_shift[i]),
                                                      static_cast<float>(head_s[i]), clamp);
    x[i] = decoded * static_cast<float>(scale[i]) + static_cast<float>(shift[i]);
  }
}

// `rows` output channels for kVectors vectors of pixels: bias + weight · x.
template <int rows>
void mix_tile(const float* weight, const float* bias, const float* x, std::int64_t stride, std::int64_t channels,
              float* out, std::int64_t out_stride) {
  Vector sum[rows][kVectors];
  for (int row = 0; row < rows; ++row)
    for (int v = 0; v < kVectors; ++v) sum[row][v] = bias[row] - Vector{};
  for (std::int64_t input = 0; input < channels; ++input) {
    Vector values[kVectors];
    for (int v = 0; v < kVectors; ++v) values[v] = load(x + input * stride + v * kLanes);
    for (int row = 0; row < rows; ++row)
      for (int v = 0; v < kVectors; ++v) sum[row][v] += weight[row * channels + input] * values[v];
  }
  for (int row = 0; row < rows; ++row)
    for (int v = 0; v < kVectors; ++v) store(out + row * out_stride + v * kLanes, sum[row][v]);
}

using MixTile = void (*)(const float*, const float*, const float*, std::int64_t, std::int64_t, float*, std::int64_t);
constexpr MixTile kMixTile[kRows] = {mix_tile<1>, mix_tile<2>, mix_tile<3>, mix_tile<4>, mix_tile<5>, mix_tile<6>};

// out: channels × count, with rows `pixels` apart: bias + weight · x.
void mix(const float* weight, const float* bias, const float* x, std::int64_t channels, std::int64_t count, float* out,
         std::int64_t pixels) {
  constexpr std::int64_t kStep = kVectors * kLanes;
  const std::int64_t stride = block_stride(count);
  for (std::int64_t output = 0; output < channels; output += kRows) {
    const std::int64_t rows = channels - output < kRows ? channels - output : kRows;
    const MixTile tile = kMixTile[rows - 1];
    const float* row_weight = weight + output * channels;
    std::int64_t p = 0;
    for (; p + kStep <= count; p += kStep)
      tile(row_weight, bias + output, x + p, stride, channels, out + output * pixels + p, pixels);
    if (p < count) {
      float rest[kRows * kStep];
      tile(row_weight, bias + output, x + p, stride, channels, rest, kStep);
      for (std::int64_t row = 0; row < rows; ++row)
        memcpy(out + (output + row) * pixels + p, rest + row * kStep, sizeof(float) * (count - p));
    }
  }
}

template <ScaleMap scale_map, AffineOrder order, typename T>
void tail_of(const FlowStepTailArgs<T>& args, const PixelBlock& block, float* x) {
  const std::int64_t pixels = args.pixels, kept = args.channels / 2, changed = args.channels - kept;
  const std::int64_t stride = block_stride(block.count);
  const std::int64_t condition = args.conditioning_batch == 1 ? 0 : block.sample;
  const std::int64_t conditioned = (condition * args.conditioning_channels + args.begin) * pixels + block.begin;
  const float* h = args.h + block.sample * args.channels * pixels + block.begin;
  const T* head = args.head + block.sample * 2 * changed * pixels + block.begin;
  const T* scale = args.injector_scale + conditioned;
  const T* shift = args.injector_shift + conditioned;
  for (std::int64_t c = 0; c < args.channels; ++c) {
    float* row = x + c * stride;
    if (c < kept) {
      inject(h + c * pixels, scale + c * pixels, shift + c * pixels, block.count, row);
    } else {
      const T* head_shift = head + (c - kept) * pixels;
      decouple_and_inject<scale_map, order>(h + c * pixels, head_shift, head_shift + changed * pixels,
                                            scale + c * pixels, shift + c * pixels, args.clamp, block.count, row);
    }
    for (std::int64_t p = block.count; p < stride; ++p) row[p] = 0.0f;
  }
  mix(args.mixing_weight, args.mixing_bias, x, args.channels, block.count,
      args.out + block.sample * args.channels * pixels + block.begin, pixels);
}

template <typename T>
void tail(const FlowStepTailArgs<T>& args, ScaleMap scale_map, AffineOrder order, const PixelBlock& block, float* x) {
  constexpr AffineOrder kScaleFirst = AffineOrder::kScaleFirst, kShiftFirst = AffineOrder::kShiftFirst;
  const bool scale_first = order == kScaleFirst;
  if (scale_map == ScaleMap::kExp)
    scale_first ? tail_of<ScaleMap::kExp, kScaleFirst>(args, block, x)
                : tail_of<ScaleMap::kExp, kShiftFirst>(args, block, x);
  else if (scale_map == ScaleMap::kSigmoid)
    scale_first ? tail_of<ScaleMap::kSigmoid, kScaleFirst>(args, block, x)
                : tail_of<ScaleMap::kSigmoid, kShiftFirst>(args, block, x);
  else
    scale_first ? tail_of<ScaleMap::kTanh, kScaleFirst>(args, block, x)
                : tail_of<ScaleMap::kTanh, kShiftFirst>(args, block, x);
}

}  // namespace

namespace SRFLOW_VARIANT {
#define SRFLOW_TEXT_OF(name) #name
#define SRFLOW_TEXT(name) SRFLOW_TEXT_OF(name)
extern const BlockKernels kernels;
const BlockKernels kernels = {SRFLOW_TEXT(SRFLOW_VARIANT), tail<float>, tail<Half>};
}  // namespace SRFLOW_VARIANT

}  // namespace srflow::cpu
