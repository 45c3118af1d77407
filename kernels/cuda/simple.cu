// Attention for every geometry, one row a CTA: slow, plain, right. The matrix kernels take the
// usual widths; this takes the rest.
#include <cmath>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/combine.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"

namespace latentd {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// Value `i` of a record of any format. Bytes: rows of odd widths are aligned to nothing more.
__device__ __forceinline__ float RecordValue(const Geometry& g, RecordFormat format,
                                             const std::byte* record, uint32_t i) {
  if (format == RecordFormat::kFp8) {
    if (i < g.latent_width) {
      const auto* scales = reinterpret_cast<const float*>(record + g.latent_width);
      uint32_t halves;
      asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(record[i])));
      return __half22float2(*reinterpret_cast<const __half2*>(&halves)).x *
             scales[i / kFp8ScaleWidth];
    }
    record += g.latent_width + sizeof(float) * (g.latent_width / kFp8ScaleWidth);
    i -= g.latent_width;
  }
  return ptx::LowBf16(reinterpret_cast<const Bf16*>(record)[i].bits);
}

__global__ void __launch_bounds__(kThreads) SimpleKernel(const Arena arena, const Work work) {
  extern __shared__ float out[];  // [latent_width]
  __shared__ float probability[kPageTokens];
  const WorkItem item = work.items[blockIdx.x];
  const WorkTile tile = item.tile;
  if (blockIdx.y >= tile.rows) return;
  const WorkRow& row = work.rows[tile.first_row + blockIdx.y];
  const Geometry g = arena.geometry;
  const uint32_t width = g.latent_width + g.rope_width;
  const uint64_t record_bytes = arena.cache.layer_bytes / kPageTokens;
  const uint32_t warp = threadIdx.x / 32;
  const uint32_t lane = threadIdx.x % 32;

  for (uint32_t c = threadIdx.x; c < g.latent_width; c += kThreads) out[c] = 0;
  float max = -INFINITY;
  float sum = 0;
  for (uint32_t block = item.first_block; block < item.end_block; ++block) {
    const BlockWalk walk(work, item, block - item.first_block);
    const uint32_t visible = VisibleInSpan(walk.span(), row.hidden_tokens);
    const uint32_t tokens =
        visible > walk.first_token() ? min(kPageTokens, visible - walk.first_token()) : 0;
    if (tokens == 0) continue;
    const std::byte* records = arena.cache.arena + walk.page() * arena.cache.page_bytes +
                               tile.layer * arena.cache.layer_bytes;
    __syncthreads();
    for (uint32_t t = warp; t < tokens; t += kWarps) {
      float dot = 0;
      for (uint32_t i = lane; i < width; i += 32) {
        dot = fmaf(ptx::LowBf16(row.query[i].bits),
                   RecordValue(g, arena.format, records + t * record_bytes, i), dot);
      }
      for (int step = 16; step > 0; step /= 2) dot += __shfl_xor_sync(~0u, dot, step);
      if (lane == 0) probability[t] = dot * row.scale_log2;
    }
    __syncthreads();
    float block_max = max;
    for (uint32_t t = 0; t < tokens; ++t) block_max = fmaxf(block_max, probability[t]);
    const float safe = SafeMax(block_max);
    const float factor = ptx::Exp2(max - safe);
    sum *= factor;
    for (uint32_t t = 0; t < tokens; ++t) sum += ptx::Exp2(probability[t] - safe);
    for (uint32_t c = threadIdx.x; c < g.latent_width; c += kThreads) {
      float value = out[c] * factor;
      for (uint32_t t = 0; t < tokens; ++t) {
        value = fmaf(ptx::Exp2(probability[t] - safe),
                     RecordValue(g, arena.format, records + t * record_bytes, c), value);
      }
      out[c] = value;
    }
    max = block_max;
  }

  const float inverse = sum == 0 ? 0.0f : 1.0f / sum;
  const float lse = sum == 0 ? -INFINITY : max + ptx::Log2(sum);
  const uint64_t slot = item.first_slot == kFinal ? 0 : item.first_slot + blockIdx.y;
  bool good = true;
  for (uint32_t c = threadIdx.x; c < g.latent_width; c += kThreads) {
    const float value = out[c] * inverse;
    if (item.first_slot != kFinal) {
      work.partial_out[slot * g.latent_width + c] = value;
      continue;
    }
    good &= fabsf(value) < INFINITY;
    if (row.out_format == OutFormat::kBf16) {
      static_cast<Bf16*>(row.out)[c].bits =
          static_cast<uint16_t>(ptx::PackBf16(value, 0.0f) & 0xffff);
    } else {
      static_cast<float*>(row.out)[c] = value;
    }
  }
  if (threadIdx.x == 0) {
    if (item.first_slot != kFinal) {
      work.partial_lse[slot] = lse;
    } else {
      good &= StoreLse(row, lse);
    }
  }
  if (!good) ReportBadRow(work, row);
}

}  // namespace

cudaError_t LaunchSimple(const Arena& arena, const Work& work, uint32_t items,
                         cudaStream_t stream) {
  if (items == 0) return cudaSuccess;
  SimpleKernel<<<dim3(items, kTileRows), kThreads, arena.geometry.latent_width * sizeof(float),
                 stream>>>(arena, work);
  return cudaGetLastError();
}

}  // namespace latentd
