// FlowStepTail on the GPU in one pass: it reads every input once and writes every output once.
//
// A block owns a tile of pixels with all their channels. First its warps compute the mixing's inputs (coupling and
// injector, element by element) into shared memory. The mixing is then a small matrix product, channels × channels by
// channels × pixels. A thread accumulates `rows` output channels of `columns` neighbouring pixels in registers, and the
// weights pass through shared memory, kDepth input channels at a time. The threads of a warp have different pixels, so
// that global reads and writes are contiguous, and the same channels, so that weights are broadcast.
#ifndef SRFLOW_CUDA_FLOW_STEP_TAIL_CUH_
#define SRFLOW_CUDA_FLOW_STEP_TAIL_CUH_

#include "block.cuh"
#include "srflow/flow_ops.h"

namespace srflow {

constexpr int kWarps = 8;   // warps of a block
constexpr int kDepth = 16;  // input channels whose weights are in shared memory at a time

// How a block's warps share its tile: row_warps of them divide the output channels, and kWarps / row_warps strips of
// kLanes·columns pixels are side by side. With few channels there are more warps for pixels.
template <int rows, int columns>
struct FlowStepTile {
  int row_warps;
  int pixels;
  int weight_pitch;  // floats from one input channel's weights to the next's; + 4: fewer bank conflicts when staging
  std::size_t shared_bytes;

  static FlowStepTile of(std::int64_t channels) {
    int row_warps = 1;
    while (row_warps < kWarps && row_warps * rows < channels) row_warps *= 2;
    const int pixels = kWarps / row_warps * kLanes * columns, pitch = row_warps * rows + 4;
    return {row_warps, pixels, pitch, (static_cast<std::size_t>(channels) * pixels + kDepth * pitch) * sizeof(float)};
  }
};

// `decoupled` for a map and an order that are chosen at run time; all threads take the same branch.
SRFLOW_HD float decoupled(ScaleMap scale_map, AffineOrder order, float h, float shift, float s, float clamp) {
  const bool scale_first = order == AffineOrder::kScaleFirst;
  switch (scale_map) {
    case ScaleMap::kExp:
      return scale_first ? decoupled<ScaleMap::kExp, AffineOrder::kScaleFirst>(h, shift, s, clamp)
                         : decoupled<ScaleMap::kExp, AffineOrder::kShiftFirst>(h, shift, s, clamp);
    case ScaleMap::kSigmoid:
      return scale_first ? decoupled<ScaleMap::kSigmoid, AffineOrder::kScaleFirst>(h, shift, s, clamp)
                         : decoupled<ScaleMap::kSigmoid, AffineOrder::kShiftFirst>(h, shift, s, clamp);
    default:
      return scale_first ? decoupled<ScaleMap::kTanh, AffineOrder::kScaleFirst>(h, shift, s, clamp)
                         : decoupled<ScaleMap::kTanh, AffineOrder::kShiftFirst>(h, shift, s, clamp);
  }
}

// The mixing's input at `columns` neighbouring pixels of one channel: mixing_input of srflow/flow_ops.h, in packs.
template <int columns, typename T>
SRFLOW_HD void mixing_inputs(const FlowStepTailArgs<T>& args, ScaleMap scale_map, AffineOrder order,
                             std::int64_t sample, int channel, std::int64_t pixel, bool whole, float (&x)[columns]) {
  const std::int64_t kept = args.channels / 2, changed = args.channels - kept, left = args.pixels - pixel;
  read_pack(args.h + (sample * args.channels + channel) * args.pixels + pixel, whole, left, x);
  if (channel >= kept) {
    float shift[columns], s[columns];
    const auto read = [&](std::int64_t from, float(&to)[columns]) {
      const std::int64_t first = sample * 2 * changed * args.pixels;
      if (!args.channels_last) return read_pack(args.head + first + from * args.pixels + pixel, whole, left, to);
      // Pixels are not neighbours in memory, but the channels of each are, which other reads take from the cache.
      const T* head = args.head + first + pixel * 2 * changed + from;
      for (int i = 0; i < columns; ++i) to[i] = i < left ? static_cast<float>(head[i * 2 * changed]) : 0.0f;
    };
    read(channel - kept, shift);
    read(channel - kept + changed, s);
    for (int i = 0; i < columns; ++i) x[i] = decoupled(scale_map, order, x[i], shift[i], s[i], args.clamp);
  }
  const std::int64_t condition = args.conditioning_batch == 1 ? 0 : sample;
  const std::int64_t at = (condition * args.conditioning_channels + args.begin + channel) * args.pixels + pixel;
  float scale[columns], shift[columns];
  read_pack(args.injector_scale + at, whole, left, scale);
  read_pack(args.injector_shift + at, whole, left, shift);
  for (int i = 0; i < columns; ++i) x[i] = x[i] * scale[i] + shift[i];
}

// Some channels of neighbouring pixels, from `channel` on, of which h_A gets its own, rounded, `count` at once: it
// divides their number and where threads begin.
template <int count, int rows, int columns, typename T>
SRFLOW_HD void write_h_a(const FlowStepTailArgs<T>& args, const float (&values)[rows][columns], std::int64_t sample,
                         int channel, std::int64_t pixel) {
  const int kept = static_cast<int>(args.channels / 2);
  for (int i = 0; i < columns && pixel + i < args.pixels; ++i) {
    for (int r = 0; r < rows; r += count) {
      if (channel + r >= kept) continue;
      Pack<Half, count> pack;
      for (int j = 0; j < count; ++j) pack.values[j] = narrowed(values[r + j][i]);
      Half* const to = args.h_a + (sample * args.pixels + pixel + i) * kept + channel + r;
      *reinterpret_cast<Pack<Half, count>*>(to) = pack;
    }
  }
}

// Launch with kWarps·kLanes threads, tiles · batch blocks and the tile's shared_bytes. packs: `columns` divides
// args.pixels and every tensor is aligned to a pack. rows must be a multiple of 4.
template <int rows, int columns, typename T>
__global__ void __launch_bounds__(kWarps* kLanes)
    flow_step_tail_kernel(FlowStepTailArgs<T> args, FlowStepTile<rows, columns> tile, ScaleMap scale_map,
                          AffineOrder order, bool packs) {
  const int warp = static_cast<int>(threadIdx.x) / kLanes, lane = static_cast<int>(threadIdx.x) % kLanes;
  const int channels = static_cast<int>(args.channels), strips = kWarps / tile.row_warps;
  // The samples of a tile are neighbouring blocks: if the conditioning has batch 1, they read it from the cache.
  const unsigned batch = static_cast<unsigned>(args.batch);  // at most the number of blocks
  const std::int64_t sample = blockIdx.x % batch, first_pixel = std::int64_t{blockIdx.x / batch} * tile.pixels;
  float* inputs = shared_memory();                   // channels × tile.pixels
  float* weights = inputs + channels * tile.pixels;  // kDepth × weight_pitch

  for (int item = warp; item < channels * strips; item += kWarps) {
    const int channel = item / strips, column = (item % strips * kLanes + lane) * columns;
    if (first_pixel + column >= args.pixels) continue;
    float x[columns];
    mixing_inputs(args, scale_map, order, sample, channel, first_pixel + column, packs, x);
    write_pack(x, true, columns, inputs + channel * tile.pixels + column);
  }

  const int row_warp = warp % tile.row_warps, column = (warp / tile.row_warps * kLanes + lane) * columns;
  const int block_rows = tile.row_warps * rows;
  for (int first_row = 0; first_row < channels; first_row += block_rows) {  // once for up to kWarps·rows channels
    const int row = first_row + row_warp * rows;
    float sums[rows][columns];
    for (int r = 0; r < rows; ++r) {
      const float bias = row + r < channels ? args.mixing_bias[row + r] : 0.0f;
      for (int i = 0; i < columns; ++i) sums[r][i] = bias;
    }
    for (int first_input = 0; first_input < channels; first_input += kDepth) {
      const int depth = channels - first_input < kDepth ? channels - first_input : kDepth;
      __syncthreads();  // the inputs are written, and the previous weights are no longer read
      for (int i = static_cast<int>(threadIdx.x); i < kDepth * block_rows; i += kWarps * kLanes) {
        const int input = i % kDepth, output = i / kDepth;
        const bool exists = input < depth && first_row + output < channels;
        const std::int64_t at = static_cast<std::int64_t>(first_row + output) * channels + first_input + input;
        weights[input * tile.weight_pitch + output] = exists ? args.mixing_weight[at] : 0.0f;
      }
      __syncthreads();
#pragma unroll 4
      for (int input = 0; input < depth; ++input) {
        float x[columns];
        read_pack(inputs + (first_input + input) * tile.pixels + column, true, columns, x);
        const float* of_input = weights + input * tile.weight_pitch + row_warp * rows;
        for (int r = 0; r < rows; r += 4) {
          float weight[4];
          read_pack(of_input + r, true, 4, weight);
          for (int j = 0; j < 4; ++j) {
            for (int i = 0; i < columns; ++i) sums[r + j][i] += weight[j] * x[i];
          }
        }
      }
    }
    const std::int64_t pixel = first_pixel + column, left = args.pixels - pixel;
    if (left <= 0) continue;  // all threads still reach the loop's barriers, because its bounds are the block's
    for (int r = 0; r < rows; ++r) {
      if (row + r < channels)
        write_pack(sums[r], packs, left, args.out + (sample * args.channels + row + r) * args.pixels + pixel);
    }
    if (args.h_a == nullptr) continue;
    if (channels / 2 % 4 == 0) {
      write_h_a<4>(args, sums, sample, row, pixel);
    } else if (channels / 2 % 2 == 0) {
      write_h_a<2>(args, sums, sample, row, pixel);
    } else {
      write_h_a<1>(args, sums, sample, row, pixel);
    }
  }
}

}  // namespace srflow

#endif  // SRFLOW_CUDA_FLOW_STEP_TAIL_CUH_
