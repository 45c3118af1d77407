// The throughput form's arithmetic: what each of the two warpgroups does with a pair of blocks. See
// throughput.cu.
#ifndef LATENTD_KERNELS_CUDA_THROUGHPUT_BLOCKS_CUH_
#define LATENTD_KERNELS_CUDA_THROUGHPUT_BLOCKS_CUH_

#include <cmath>
#include <cstdint>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/throughput_cta.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/cuda/work.h"

namespace latentd::throughput {

using namespace ptx;  // NOLINT: one wrapper per instruction, all of them used here

// How far above its base, in powers of two, a row's logits may go before the base moves to the
// largest of them. P, its sums and the output are relative to the base; a base that stays saves
// scaling the output, and finding the rows' exact maxima.
inline constexpr float kSlack = 8;

// The state of a thread's two rows, `row` and `row + 8`, and its part of the output.
struct Rows {
  float base[2];  // -inf: nothing seen yet
  float sum[2];   // of this warpgroup's blocks only, and this thread's columns
  float scale[2];
  uint32_t hidden[2];
};

// How many of a block's tokens the rows see.
struct Limits {
  uint32_t all;  // any of them; 64 or more: the whole block
  uint32_t row[2];
  __device__ __forceinline__ Limits(const StageInfo& info, const Rows& rows)
      : all(info.visible_tokens - info.first_token) {
    const WorkSpan span{nullptr, info.visible_tokens, info.tokens_after};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const uint32_t visible = VisibleInSpan(span, rows.hidden[r]);
      row[r] = visible > info.first_token ? visible - info.first_token : 0;
    }
  }
};

// Starts one part of S of the block in stage kGroup: 64 rows x 64 tokens. A loop over boxes: short
// code matters where most of it runs once.
template <int kGroup, Part kPart, bool kFirst>
__device__ __forceinline__ void MultiplyQueries(Shared& shared, uint32_t parity, float (&s)[32]) {
  const uint32_t q = SharedAddress(shared.q) + kPart * 4 * kBoxBytes;
  const uint32_t k = SharedAddress(shared.stage[kGroup]) + kPart * 4 * kBoxBytes;
  MbarrierWait(SharedAddress(&shared.ready[kGroup][kPart]), parity);
  WgmmaFence();
#pragma unroll 1
  for (uint32_t box = 0; box < (kPart == kRope ? 1 : 4); ++box) {
#pragma unroll
    for (uint32_t step = 0; step < 4; ++step) {
      Wgmma<0>(s, MatrixDescriptor(q + box * kBoxBytes + step * 32),
               MatrixDescriptor(k + box * kBoxBytes + step * 32),
               !(kFirst && box == 0 && step == 0));
    }
  }
  WgmmaCommit();
}

// Moves the bases of rows whose largest exponent is above the slack, in the whole warp.
__device__ __forceinline__ void Rebase(float (&max)[2], float (&base)[2], float (&s)[32]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    max[r] = fmaxf(max[r], __shfl_xor_sync(~0u, max[r], 1));
    max[r] = fmaxf(max[r], __shfl_xor_sync(~0u, max[r], 2));
    const bool first = base[r] == -INFINITY;
    const float shift = max[r] > (first ? -INFINITY : 0.0f) ? max[r] : 0.0f;
    if (max[r] > (first ? -INFINITY : 0.0f)) base[r] = SafeMax(base[r]) + shift;
#pragma unroll
    for (int i = 0; i < 16; ++i) s[i / 2 * 4 + 2 * r + i % 2] -= shift;
  }
}

// S becomes exponents relative to `base`. kMask: what a row does not see becomes -inf.
template <bool kMask>
__device__ __forceinline__ void Exponents(const Limits& limits, const Rows& rows, uint32_t lane,
                                          const float (&base)[2], float (&s)[32]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float safe = SafeMax(base[r]);
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      float& value = s[i / 2 * 4 + 2 * r + i % 2];
      value = fmaf(value, rows.scale[r], -safe);
      if (kMask && i / 2 * 8 + 2 * (lane % 4) + i % 2 >= limits.row[r]) value = -INFINITY;
    }
  }
}

// S becomes P, what a row does not see 0; and this thread's part of its rows' sums. Moves `base`
// where it must.
__device__ __forceinline__ void Softmax(const Limits& limits, const Rows& rows, uint32_t lane,
                                        float (&base)[2], float (&s)[32], float (&sum)[2]) {
  float max[2];
  bool above = false;
  if (__all_sync(~0u, limits.row[0] >= kPageTokens && limits.row[1] >= kPageTokens)) {
    Exponents<false>(limits, rows, lane, base, s);
  } else {
    Exponents<true>(limits, rows, lane, base, s);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    max[r] = s[2 * r];
#pragma unroll
    for (int i = 1; i < 16; ++i) max[r] = fmaxf(max[r], s[i / 2 * 4 + 2 * r + i % 2]);
    above |= max[r] > (base[r] == -INFINITY ? -INFINITY : kSlack);
  }
  if (__any_sync(~0u, above)) Rebase(max, base, s);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] = 0;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      float& value = s[i / 2 * 4 + 2 * r + i % 2];
      value = Exp2(value);
      sum[r] += value;
    }
  }
}

__device__ __forceinline__ void Pack(const float (&p)[32], uint32_t (&packed)[16]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) packed[i] = PackBf16(p[2 * i], p[2 * i + 1]);
}

// P to shared memory, 64 rows x 64 tokens, swizzled like a box.
__device__ __forceinline__ void StoreP(const uint32_t (&packed)[16], std::byte* box, uint32_t warp,
                                       uint32_t lane) {
  const uint32_t row = warp * 16 + lane % 16;
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) {
    StoreMatrix4(SharedAddress(box) + Swizzled(row, 2 * j + lane / 16), packed[4 * j],
                 packed[4 * j + 1], packed[4 * j + 2], packed[4 * j + 3]);
  }
  FenceProxyAsync();
}

__device__ __forceinline__ void ScaleOutput(const float (&factor)[2], float (&o)[128]) {
#pragma unroll
  for (int i = 0; i < 128; ++i) o[i] *= factor[i >> 1 & 1];
}

// O += P * V, V being four boxes: a block's left or right half.
__device__ __forceinline__ void MultiplyValues(const uint32_t (&p)[16], uint32_t v,
                                               float (&o)[128]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    WgmmaN256(o, p + 4 * k, MatrixDescriptor(v + k * 2048, 1024, kBoxBytes));
  }
  WgmmaCommit();
}
__device__ __forceinline__ void MultiplyValues(uint32_t p, uint32_t v, float (&o)[128]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    WgmmaN256(o, MatrixDescriptor(p + k * 32), MatrixDescriptor(v + k * 2048, 1024, kBoxBytes));
  }
  WgmmaCommit();
}

// Once the products that read it are done, by each warp of the group that reads it last.
__device__ __forceinline__ void FreePart(Shared& shared, uint32_t stage, uint32_t part,
                                         uint32_t lane) {
  if (lane == 0) MbarrierArrive(SharedAddress(&shared.free[stage][part]));
}

template <RecordFormat kFormat, int kGroup>
__device__ __forceinline__ void ZeroTail(Shared& shared, uint32_t tokens, uint32_t thread) {
  if constexpr (kFormat == RecordFormat::kBf16) {
    if (tokens < kPageTokens) {
      ZeroUnusedTokens<128>(shared.stage[kGroup], tokens, thread);
      BarSync(kGroup0 + kGroup, 128);
    }
  }
}

// What a warpgroup's loop needs besides its registers.
struct Loop {
  Shared& shared;
  uint32_t thread;  // of the warpgroup
  uint32_t warp;
  uint32_t lane;
  uint32_t row;   // the first of the thread's two
  uint32_t even;  // addresses of the stages
  uint32_t odd;
  __device__ __forceinline__ Loop(Shared& s, uint32_t t)
      : shared(s),
        thread(t),
        warp(t / 32),
        lane(t % 32),
        row(warp * 16 + lane / 4),
        even(SharedAddress(s.stage[0])),
        odd(SharedAddress(s.stage[1])) {}
};

// Moves the rows' sums and the output from their bases to `base`; mostly there is nothing to do.
__device__ __forceinline__ void MoveTo(const float (&base)[2], Rows& rows, float (&o)[128]) {
  if (!__any_sync(~0u, base[0] != rows.base[0] || base[1] != rows.base[1])) return;
  float factor[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    factor[r] = Exp2(rows.base[r] - SafeMax(base[r]));
    rows.sum[r] *= factor[r];
    rows.base[r] = base[r];
  }
  ScaleOutput(factor, o);
}

__device__ __forceinline__ void StoreBase(float (&shared_base)[kTileRows], const Loop& loop,
                                          const float (&base)[2]) {
  if (loop.lane % 4 != 0) return;
  shared_base[loop.row] = base[0];
  shared_base[loop.row + 8] = base[1];
}

// Warpgroup 0's part of a pair of blocks, or (kBoth false) of a last block by itself. REQUIRES: the
// left part of S is on its way; `more`: starts that of the next pair.
template <RecordFormat kFormat, bool kBoth>
__device__ __forceinline__ void EvenBlock(const Loop& loop, uint32_t parity, bool more, Rows& rows,
                                          float (&s)[32], float (&o)[128]) {
  Shared& shared = loop.shared;
  MultiplyQueries<0, kRight, false>(shared, parity, s);
  MultiplyQueries<0, kRope, false>(shared, parity, s);
  // Now the odd block's S, not at the same time: P of this one is needed first.
  if constexpr (kBoth) BarArrive(kEvenStarted, kMathThreads);
  const Limits limits(shared.info[0], rows);
  float base[2] = {rows.base[0], rows.base[1]};
  WgmmaWait<0>();
  ZeroTail<kFormat, 0>(shared, limits.all, loop.thread);
  float sum[2];
  Softmax(limits, rows, loop.lane, base, s, sum);
  uint32_t packed[16];
  Pack(s, packed);
  StoreP(packed, shared.stage[0] + kRopeBox * kBoxBytes, loop.warp, loop.lane);
  StoreBase(shared.even_base, loop, base);
  BarArrive(kEvenReady, kMathThreads);
  MoveTo(base, rows, o);
  rows.sum[0] += sum[0];
  rows.sum[1] += sum[1];
  WgmmaFence();
  MultiplyValues(packed, loop.even, o);
  WgmmaWait<0>();
  FreePart(shared, 0, kLeft, loop.lane);
  if constexpr (kBoth) {
    BarSync(kOddReady, kMathThreads);
    base[0] = shared.odd_base[loop.row];
    base[1] = shared.odd_base[loop.row + 8];
    MoveTo(base, rows, o);
    WgmmaFence();
    MultiplyValues(loop.odd + kRopeBox * kBoxBytes, loop.odd, o);
    if (more) {
      MultiplyQueries<0, kLeft, true>(shared, parity ^ 1, s);
      WgmmaWait<1>();
    } else {
      WgmmaWait<0>();
    }
    FreePart(shared, 1, kLeft, loop.lane);
    FreePart(shared, 1, kRope, loop.lane);
  }
}

// Warpgroup 1's.
template <RecordFormat kFormat, bool kBoth>
__device__ __forceinline__ void OddBlock(const Loop& loop, uint32_t parity, Rows& rows,
                                         float (&o)[128]) {
  Shared& shared = loop.shared;
  float s[32];
  if constexpr (kBoth) {
    BarSync(kEvenStarted, kMathThreads);
    MultiplyQueries<1, kRight, true>(shared, parity, s);
    MultiplyQueries<1, kLeft, false>(shared, parity, s);
    MultiplyQueries<1, kRope, false>(shared, parity, s);
  }
  const Limits limits(shared.info[kBoth], rows);
  BarSync(kEvenReady, kMathThreads);
  float base[2] = {shared.even_base[loop.row], shared.even_base[loop.row + 8]};
  MoveTo(base, rows, o);
  WgmmaFence();
  MultiplyValues(loop.even + kRopeBox * kBoxBytes, loop.even + 4 * kBoxBytes, o);
  if constexpr (!kBoth) {
    WgmmaWait<0>();
  } else {
    WgmmaWait<1>();
    ZeroTail<kFormat, 1>(shared, limits.all, loop.thread);
    float sum[2];
    Softmax(limits, rows, loop.lane, base, s, sum);
    uint32_t packed[16];
    Pack(s, packed);
    StoreP(packed, shared.stage[1] + kRopeBox * kBoxBytes, loop.warp, loop.lane);
    StoreBase(shared.odd_base, loop, base);
    BarArrive(kOddReady, kMathThreads);
    WgmmaWait<0>();
    FreePart(shared, 0, kRight, loop.lane);
    FreePart(shared, 0, kRope, loop.lane);
    MoveTo(base, rows, o);
    rows.sum[0] += sum[0];
    rows.sum[1] += sum[1];
    WgmmaFence();
    MultiplyValues(packed, loop.odd + 4 * kBoxBytes, o);
    WgmmaWait<0>();
    FreePart(shared, 1, kRight, loop.lane);
  }
}

// All of a CTA's blocks, by warpgroup kGroup.
template <RecordFormat kFormat, int kGroup>
__device__ __forceinline__ void MultiplyBlocks(Shared& shared, uint32_t blocks, uint32_t thread,
                                               Rows& rows, float (&o)[128]) {
  const Loop loop(shared, thread);
  const bool single = blocks % 2 == 1;
  if constexpr (kGroup == 0) {
    if (blocks == 0) return;
    float s[32];
    MultiplyQueries<0, kLeft, true>(shared, 0, s);
    for (uint32_t pair = 0; 2 * pair + 1 < blocks; ++pair) {
      EvenBlock<kFormat, true>(loop, pair & 1, 2 * pair + 2 < blocks, rows, s, o);
    }
    if (single) EvenBlock<kFormat, false>(loop, blocks / 2 & 1, false, rows, s, o);
  } else {
    const uint32_t pairs = blocks / 2;
    for (uint32_t pair = 0; pair < pairs; ++pair) {
      OddBlock<kFormat, true>(loop, pair & 1, rows, o);
    }
    if (single) OddBlock<kFormat, false>(loop, pairs & 1, rows, o);
  }
}

}  // namespace latentd::throughput

#endif  // LATENTD_KERNELS_CUDA_THROUGHPUT_BLOCKS_CUH_
