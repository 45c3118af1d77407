// The narrow form's S and P: what its score warpgroup does. See narrow.cu.
#ifndef LATENTD_KERNELS_CUDA_NARROW_SCORES_CUH_
#define LATENTD_KERNELS_CUDA_NARROW_SCORES_CUH_

#include <cmath>
#include <cstdint>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/narrow_cta.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/cuda/work.h"

namespace latentd::narrow {

using namespace ptx;  // NOLINT: one wrapper per instruction, most of them used here

// S apart for each scale, and of the rope columns.
using Scores = float[kScales + 1][kAccumulators];

__device__ __forceinline__ void MultiplyQueries(uint32_t q, uint32_t k, Scores& s) {
  WgmmaFence();
#pragma unroll
  for (uint32_t box = 0; box < kBoxes; ++box) {
#pragma unroll
    for (uint32_t step = 0; step < 4; ++step) {
      const uint64_t a = MatrixDescriptor(k + box * kBoxBytes + step * 32);
      const uint64_t b = MatrixDescriptor(q + box * kRowBoxBytes + step * 32);
      if (box == kRopeBox) {
        Wgmma<0>(s[kScales], a, b, step != 0);
      } else {
        WgmmaF16<0>(s[box / 2], a, b, (box % 2 | step) != 0);
      }
    }
  }
  WgmmaCommit();
  WgmmaWait<0>();
}

// P as rows x tokens, swizzled: S's fragments transposed.
__device__ __forceinline__ void StoreP(uint32_t p, const uint32_t (&packed)[kOwnRows],
                                       uint32_t warp, uint32_t lane) {
  const uint32_t matrix = lane / 8;
  const uint32_t row = lane % 8;
  const uint32_t chunk = ((warp * 16 + matrix % 2 * 8) * 2) ^ (row << 4);
  StoreMatrix4Transposed(p + (matrix / 2 * 8 + row) * 128 + chunk, packed[0], packed[1], packed[2],
                         packed[3]);
}

// What a thread knows of its rows; sums are over its own tokens.
struct Rows {
  float scale[kOwnRows];
  float factor[kOwnRows];  // of the latent part of logits
  uint32_t hidden[kOwnRows];
  float base[kOwnRows];  // of exponents: -inf until something is seen
  float sum[kOwnRows];
  float max_scale = 0;  // of all tokens so far
  int shift = 0;
};

__device__ __forceinline__ float Of(const float4& scales, int i) {
  return i == 0 ? scales.x : i == 1 ? scales.y : i == 2 ? scales.z : scales.w;
}

// Value v of a thread's part of S: row RowOf(v / 4 * 2 + v % 2), the first or second token.
__device__ __forceinline__ float Logit(const Scores& s, const float4& scales, const Rows& rows,
                                       int v) {
  const int row = v / 4 * 2 + v % 2;
  float latent = 0;
#pragma unroll
  for (int i = 0; i < static_cast<int>(kScales); ++i) latent = fmaf(s[i][v], Of(scales, i), latent);
  return fmaf(latent, rows.factor[row], s[kScales][v]) * rows.scale[row];
}

// The shift that makes `scale` about 2^6.
__device__ __forceinline__ int ShiftFor(float scale) {
  return min(max(133 - static_cast<int>(__float_as_uint(scale) >> 23), -100), 100);
}

// Moves the rows' bases to the largest logit of the block, and the shift to the largest scale: to
// all score threads, and as a factor to whoever has the output. `max`: of this thread's logits.
__device__ __forceinline__ void Rebase(Shared& shared, uint32_t b, uint32_t thread, Rows& rows,
                                       float (&max)[kOwnRows], float scale) {
  const uint32_t warp = thread / 32;
  const uint32_t lane = thread % 32;
#pragma unroll
  for (int step = 4; step <= 16; step *= 2) {
#pragma unroll
    for (float& m : max) m = fmaxf(m, __shfl_xor_sync(~0u, m, step));
    scale = fmaxf(scale, __shfl_xor_sync(~0u, scale, step));
  }
  if (lane < 4) {
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i) shared.max[b % 2][warp][RowOf(lane, i)] = max[i];
    if (lane == 0) shared.max_scale[b % 2][warp] = scale;
  }
  BarSync(kScores, kScoreThreads);
#pragma unroll
  for (int w = 0; w < 4; ++w) scale = fmaxf(scale, shared.max_scale[b % 2][w]);
  int shift = rows.shift;
  if (scale > rows.max_scale) {
    shift = ShiftFor(scale);
    rows.max_scale = scale;
  }
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    const float before = rows.base[i];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      rows.base[i] = fmaxf(rows.base[i], shared.max[b % 2][w][RowOf(lane, i)]);
    }
    const float factor = Exp2(before - SafeMax(rows.base[i]));
    rows.sum[i] *= factor;
    if (warp == 0 && lane < 4) {
      shared.factor[b % 2][RowOf(lane, i)] = factor * Exp2(static_cast<float>(shift - rows.shift));
    }
  }
  rows.shift = shift;
}

// P relative to the bases, times each scale and 2^shift. REQUIRES: the block before is done with P.
__device__ __forceinline__ void StoreScaledP(Shared& shared, const float (&p)[2][kOwnRows],
                                             const float4 (&scales)[2], int shift, uint32_t warp,
                                             uint32_t lane) {
  const float unit = Exp2(static_cast<float>(shift));
#pragma unroll
  for (int i = 0; i < static_cast<int>(kScales); ++i) {
    const float a = Of(scales[0], i) * unit;
    const float z = Of(scales[1], i) * unit;
    const uint32_t packed[kOwnRows] = {
        PackF16(p[0][0] * a, p[0][1] * a), PackF16(p[1][0] * z, p[1][1] * z),
        PackF16(p[0][2] * a, p[0][3] * a), PackF16(p[1][2] * z, p[1][3] * z)};
    StoreP(SharedAddress(shared.p[i]), packed, warp, lane);
  }
}

// From S of block b to P, and the factor that the output so far needs.
__device__ __forceinline__ void Softmax(Shared& shared, uint32_t b, const WorkSpan& span,
                                        uint32_t first_token, uint32_t thread, Rows& rows,
                                        const Scores& s) {
  const uint32_t warp = thread / 32;
  const uint32_t lane = thread % 32;
  const uint32_t own = warp * 16 + lane / 4;
  const float4 scales[2] = {shared.scales[b % 2][own], shared.scales[b % 2][own + 8]};
  float max_scale = 0;
#pragma unroll
  for (int i = 0; i < static_cast<int>(kScales); ++i) {
    max_scale = fmaxf(max_scale, fmaxf(Of(scales[0], i), Of(scales[1], i)));
  }
  bool above = max_scale > rows.max_scale;
  float p[2][kOwnRows];
  float max[kOwnRows];
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    const uint32_t visible = VisibleInSpan(span, rows.hidden[i]);
#pragma unroll
    for (int z = 0; z < 2; ++z) {
      const float logit = Logit(s, scales[z], rows, 4 * (i / 2) + 2 * z + i % 2);
      p[z][i] = first_token + own + 8 * z < visible ? logit : -INFINITY;
    }
    max[i] = fmaxf(p[0][i], p[1][i]);
    above |= max[i] > (rows.base[i] == -INFINITY ? -INFINITY : rows.base[i] + kSlack);
  }
  const bool moves = BarAny(kScores, kScoreThreads, above);
  if (moves) Rebase(shared, b, thread, rows, max, max_scale);
  if (thread == 0) shared.moves[b % 2] = moves;
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    const float safe = SafeMax(rows.base[i]);
    p[0][i] = Exp2(p[0][i] - safe);
    p[1][i] = Exp2(p[1][i] - safe);
    rows.sum[i] += p[0][i] + p[1][i];
  }
  // The block before is done with its P, and its tile.
  if (b > 0) MbarrierWait(SharedAddress(&shared.tile_free[(b - 1) % 2]), (b - 1) / 2 & 1);
  StoreScaledP(shared, p, scales, rows.shift, warp, lane);
  FenceProxyAsync();
  WarpArrive(shared.p_ready[b % 2], lane);
}

__device__ __forceinline__ void Score(const Work& work, const WorkItem& item, Shared& shared,
                                      uint32_t thread) {
  const uint32_t warp = thread / 32;
  const uint32_t lane = thread % 32;
  const uint32_t blocks = item.end_block - item.first_block;
  Rows rows;
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    const uint32_t row = RowOf(lane, i);
    const bool real = row < item.tile.rows;
    const WorkRow* from = &work.rows[item.tile.first_row + (real ? row : 0)];
    rows.scale[i] = real ? __ldg(&from->scale_log2) : 0.0f;
    rows.factor[i] = shared.row_factor[row];
    rows.hidden[i] = __ldg(&from->hidden_tokens);
    rows.base[i] = -INFINITY;
    rows.sum[i] = 0;
  }
  BlockWalk walk(work, item, 0);
  for (uint32_t b = 0; b < blocks; ++b) {
    const WorkSpan span = walk.span();
    const uint32_t first_token = walk.first_token();
    if (b + 1 < blocks) walk.Next();
    MbarrierWait(SharedAddress(&shared.tile_ready[b % 2]), b / 2 & 1);
    Scores s;
    MultiplyQueries(SharedAddress(shared.q), SharedAddress(shared.tile[b % 2]), s);
    Softmax(shared, b, span, first_token, thread, rows, s);
  }
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
#pragma unroll
    for (int step = 4; step <= 16; step *= 2) {
      rows.sum[i] += __shfl_xor_sync(~0u, rows.sum[i], step);
    }
    if (lane < 4) {
      shared.sum[warp][RowOf(lane, i)] = rows.sum[i];
      if (warp == 0) shared.final_base[RowOf(lane, i)] = rows.base[i];
    }
  }
  if (thread == 0) shared.final_shift = rows.shift;
  BarArrive(kMath, kMathThreads);
}

}  // namespace latentd::narrow

#endif  // LATENTD_KERNELS_CUDA_NARROW_SCORES_CUH_
