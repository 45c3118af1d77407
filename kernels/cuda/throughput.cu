// 64 rows over a run of blocks, by one CTA or by a cluster that shares the blocks.
//
// Two warpgroups hold the 64 x 512 output, half of its columns each (128 registers a thread). They
// take the blocks in pairs: warpgroup 0 computes S and P of the even block, warpgroup 1 of the odd
// one, and each multiplies both Ps with its columns of both blocks, half a pair apart, so that
// one's softmax hides behind the other's products:
//
//   warpgroup 0                                    warpgroup 1
//   S0, m0 = max(m, S0), P0 = exp2(S0 - m0)        O = O + P1 V1[right] (of the pair before)
//   P0 and m0 to shared memory      -- P0, m0 -->  S1 starts
//   O = O exp2(m - m0) + P0 V0[left]               O = O exp2(m - m0) + P0 V0[right]
//                                                  m1 = max(m0, S1), P1 = exp2(S1 - m1)
//                                  <-- P1, m1 --   P1 and m1 to shared memory
//   O = O exp2(m0 - m1) + P1 V1[left]              O = O exp2(m0 - m1) + P1 V1[right]
//
// P takes the place of its block's rope box, which only S reads. A third warpgroup loads, in parts
// (left, right, rope) because each is free at another time; the even block is free in the middle of
// a pair.
//
// In a cluster each CTA takes an equal run of the blocks; at the end every one reads its share of
// the columns from all of them through distributed shared memory.
#include <algorithm>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/throughput.h"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/cuda/work.h"

namespace latentd {
namespace {

using namespace ptx;  // NOLINT: one wrapper per instruction, all of them used here

constexpr int kThreads = 384;
constexpr int kMathThreads = 256;
constexpr int kStages = 2;

enum Part : uint32_t { kLeft = 0, kRight = 1, kRope = 2, kParts = 3 };

// Named barriers.
enum : uint32_t { kEvenReady = 1, kOddReady = 2, kGroup0 = 3, kMath = 5 };

struct StageInfo {
  uint32_t visible_tokens;
  uint32_t tokens_after;
  uint32_t first_token;
  uint32_t unused;
};

struct alignas(1024) Shared {
  std::byte q[kBlockBytes];
  std::byte stage[kStages][kBlockBytes];
  float even_max[kTileRows];
  float pair_max[kTileRows];
  float row_sum[2][kTileRows];
  float lse[kTileRows];
  StageInfo info[kStages];
  uint64_t ready[kStages][kParts];
  uint64_t free[kStages][kParts];
  uint64_t queries_loaded;
};

// After the last block the stages hold the CTA's answer for the rest of the cluster: rows of 512
// bf16 values and 16 bytes that keep stores of eight rows off each other's banks; and weights.
constexpr uint32_t kExchangeRowBytes = 2 * kLatentWidth + 16;
constexpr uint32_t kWeightsOffset = kTileRows * kExchangeRowBytes;
static_assert(kWeightsOffset + kMaxClusterSize * kTileRows * sizeof(float) <=
              kStages * kBlockBytes);

template <RecordFormat kFormat>
struct Registers;
// 256 and 128 threads; 65,536 registers. Dequantising wants some.
template <>
struct Registers<RecordFormat::kBf16> {
  static constexpr int kMath = 232;
  static constexpr int kLoad = 40;
};
template <>
struct Registers<RecordFormat::kFp8> {
  static constexpr int kMath = 208;
  static constexpr int kLoad = 88;
};

struct Assignment {
  WorkItem item;
  uint32_t first_block;  // of this CTA
  uint32_t blocks;
};

// --- Loading ---

template <RecordFormat kFormat>
__device__ __forceinline__ void LoadPart(const Arena& arena, Shared& shared, uint32_t stage,
                                         uint32_t part, const BlockWalk& walk, uint32_t layer,
                                         uint32_t parity, uint32_t thread) {
  const uint32_t ready = SharedAddress(&shared.ready[stage][part]);
  MbarrierWait(SharedAddress(&shared.free[stage][part]), parity);
  // The part that its reader waits for first.
  if (part == (stage == 0 ? kLeft : kRight) && thread == 0) {
    shared.info[stage] = {walk.span().visible_tokens, walk.span().tokens_after, walk.first_token(),
                          0};
  }
  std::byte* block = shared.stage[stage];
  if constexpr (kFormat == RecordFormat::kBf16) {
    const uint32_t destination = SharedAddress(block) + part * 4 * kBoxBytes;
    MbarrierExpect(ready, part == kRope ? kBoxBytes : 4 * kBoxBytes);
    LoadBoxes(destination, part == kRope ? &arena.one_box : &arena.four_boxes, part * 4, layer,
              walk.page(), ready);
  } else {
    const std::byte* records =
        arena.cache.arena + walk.page() * arena.cache.page_bytes + layer * arena.cache.layer_bytes;
    if (part == kRope) {
      CopyRope<128>(records, walk.tokens(), block, thread);
    } else {
      DequantiseHalf<128>(records, walk.tokens(), part, block, thread);
    }
    FenceProxyAsync();
    MbarrierArrive(ready);
  }
}

// bf16: one thread. fp8: the whole warpgroup.
template <RecordFormat kFormat>
__device__ __forceinline__ void Load(const Arena& arena, const Work& work, Shared& shared,
                                     const Assignment& mine, uint32_t thread) {
  BlockWalk even(work, mine.item, mine.first_block - mine.item.first_block);
  for (uint32_t b = 0; b < mine.blocks; b += 2) {
    const uint32_t parity = (b / 2 & 1) ^ 1;
    const bool both = b + 1 < mine.blocks;
    BlockWalk odd = even;
    if (both) odd.Next();
    auto load = [&](uint32_t stage, uint32_t part) {
      LoadPart<kFormat>(arena, shared, stage, part, stage == 0 ? even : odd, mine.item.tile.layer,
                        parity, thread);
    };
    load(0, kLeft);
    load(0, kRight);
    load(0, kRope);
    // The first S needs the rows and the first block, nothing else: copies share the bandwidth of
    // the multiprocessor's group.
    if (b == 0) MbarrierWait(SharedAddress(&shared.queries_loaded), 0);
    if (both) {
      load(1, kRight);
      load(1, kLeft);
      load(1, kRope);
    }
    even = odd;
    if (b + 2 < mine.blocks) even.Next();
  }
}

// The tile's rows to the nine boxes of q; rows beyond the tile's are zeros. `source(index)`: where
// the rows' chunk `index` of 16 bytes is.
template <typename Source>
__device__ __forceinline__ void CopyQueries(uint32_t rows, Shared& shared, uint32_t thread,
                                            const Source& source) {
  constexpr uint32_t kChunksPerRow = kRowBytes / 16;
  constexpr int kChunks = kTileRows * kChunksPerRow / kMathThreads;
  constexpr int kAtOnce = 9;
  static_assert(kChunks % kAtOnce == 0);
#pragma unroll
  for (int first = 0; first < kChunks; first += kAtOnce) {
    uint4 bytes[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const uint32_t index = thread + (first + i) * kMathThreads;
      bytes[i] = make_uint4(0, 0, 0, 0);
      if (index < rows * kChunksPerRow) bytes[i] = __ldg(source(index));
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const uint32_t index = thread + (first + i) * kMathThreads;
      const uint32_t chunk = index % kChunksPerRow;
      *reinterpret_cast<uint4*>(shared.q + chunk / 8 * kBoxBytes +
                                Swizzled(index / kChunksPerRow, chunk % 8)) = bytes[i];
    }
  }
}

__device__ __forceinline__ void LoadQueries(const Work& work, const WorkItem& item, Shared& shared,
                                            uint32_t thread) {
  constexpr uint32_t kChunksPerRow = kRowBytes / 16;
  if (item.queries != nullptr) {
    const auto* queries = reinterpret_cast<const uint4*>(item.queries);
    CopyQueries(item.tile.rows, shared, thread, [&](uint32_t index) { return queries + index; });
  } else {
    const WorkRow* rows = work.rows + item.tile.first_row;
    CopyQueries(item.tile.rows, shared, thread, [&](uint32_t index) {
      return reinterpret_cast<const uint4*>(rows[index / kChunksPerRow].query) +
             index % kChunksPerRow;
    });
  }
  FenceProxyAsync();
}

// --- One warpgroup's arithmetic ---

// The state of a thread's two rows, `row` and `row + 8`, and its part of the output.
struct Rows {
  float max[2];
  float sum[2];  // of this warpgroup's blocks only, and this thread's columns
  float scale[2];
  uint32_t hidden[2];
};

// Starts S of the block in stage kGroup: 64 rows x 64 tokens.
template <int kGroup>
__device__ __forceinline__ void MultiplyQueries(Shared& shared, uint32_t parity, float (&s)[32]) {
  const uint32_t q = SharedAddress(shared.q);
  const uint32_t k = SharedAddress(shared.stage[kGroup]);
  WgmmaFence();
  auto part = [&](uint32_t which, bool first) {
    MbarrierWait(SharedAddress(&shared.ready[kGroup][which]), parity);
#pragma unroll
    for (uint32_t box = which * 4; box < which * 4 + (which == kRope ? 1 : 4); ++box) {
#pragma unroll
      for (uint32_t step = 0; step < 4; ++step) {
        Wgmma<0>(s, MatrixDescriptor(q + box * kBoxBytes + step * 32),
                 MatrixDescriptor(k + box * kBoxBytes + step * 32),
                 !(first && box == which * 4 && step == 0));
      }
    }
  };
  part(kGroup == 0 ? kLeft : kRight, true);
  part(kGroup == 0 ? kRight : kLeft, false);
  part(kRope, false);
  WgmmaCommit();
}

// Scales S, hides what a row does not see, and gives the two rows' largest values.
__device__ __forceinline__ void MaskAndMax(const StageInfo& info, const Rows& rows, uint32_t lane,
                                           float (&s)[32], float (&max)[2]) {
  const WorkSpan span{nullptr, info.visible_tokens, info.tokens_after};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const uint32_t visible = VisibleInSpan(span, rows.hidden[r]);
    const uint32_t limit = visible > info.first_token ? visible - info.first_token : 0;
    // Without asking whether all is visible: a branch here costs more than it saves (README.md).
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      float& value = s[i / 2 * 4 + 2 * r + i % 2];
      value = i / 2 * 8 + 2 * (lane % 4) + i % 2 < limit ? value * rows.scale[r] : -INFINITY;
    }
    max[r] = s[2 * r];
#pragma unroll
    for (int i = 1; i < 16; ++i) max[r] = fmaxf(max[r], s[i / 2 * 4 + 2 * r + i % 2]);
    max[r] = fmaxf(max[r], __shfl_xor_sync(~0u, max[r], 1));
    max[r] = fmaxf(max[r], __shfl_xor_sync(~0u, max[r], 2));
  }
}

// S becomes P relative to `max`; and this thread's part of its rows' sums.
__device__ __forceinline__ void Exponentiate(const float (&max)[2], float (&s)[32],
                                             float (&sum)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float safe = SafeMax(max[r]);
    sum[r] = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& value = s[4 * j + 2 * r + c];
        value = Exp2(value - safe);
        sum[r] += value;
      }
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
__device__ __forceinline__ void ZeroTail(Shared& shared, const StageInfo& info, uint32_t thread) {
  if constexpr (kFormat == RecordFormat::kBf16) {
    const uint32_t tokens = info.visible_tokens - info.first_token;
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

// Moves the rows' sums and the output from their old maxima to `max`.
__device__ __forceinline__ void MoveTo(const float (&max)[2], Rows& rows, float (&o)[128]) {
  float factor[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    factor[r] = Exp2(rows.max[r] - SafeMax(max[r]));
    rows.sum[r] *= factor[r];
    rows.max[r] = max[r];
  }
  ScaleOutput(factor, o);
}

// Warpgroup 0's part of a pair of blocks, or (kBoth false) of a last block by itself.
template <RecordFormat kFormat, bool kBoth>
__device__ __forceinline__ void EvenBlock(const Loop& loop, uint32_t parity, Rows& rows,
                                          float (&o)[128]) {
  Shared& shared = loop.shared;
  float s[32];
  MultiplyQueries<0>(shared, parity, s);
  WgmmaWait<0>();
  const StageInfo info = shared.info[0];
  ZeroTail<kFormat, 0>(shared, info, loop.thread);
  float max[2];
  MaskAndMax(info, rows, loop.lane, s, max);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    max[r] = fmaxf(max[r], rows.max[r]);
    if (loop.lane % 4 == 0) shared.even_max[loop.row + 8 * r] = max[r];
  }
  float sum[2];
  Exponentiate(max, s, sum);
  uint32_t packed[16];
  Pack(s, packed);
  StoreP(packed, shared.stage[0] + kRopeBox * kBoxBytes, loop.warp, loop.lane);
  BarArrive(kEvenReady, kMathThreads);
  MoveTo(max, rows, o);
  rows.sum[0] += sum[0];
  rows.sum[1] += sum[1];
  WgmmaFence();
  MultiplyValues(packed, loop.even, o);
  WgmmaWait<0>();
  FreePart(shared, 0, kLeft, loop.lane);
  if constexpr (kBoth) {
    BarSync(kOddReady, kMathThreads);
    max[0] = shared.pair_max[loop.row];
    max[1] = shared.pair_max[loop.row + 8];
    MoveTo(max, rows, o);
    WgmmaFence();
    MultiplyValues(loop.odd + kRopeBox * kBoxBytes, loop.odd, o);
    WgmmaWait<0>();
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
  if constexpr (kBoth) MultiplyQueries<1>(shared, parity, s);
  BarSync(kEvenReady, kMathThreads);
  float max[2] = {shared.even_max[loop.row], shared.even_max[loop.row + 8]};
  MoveTo(max, rows, o);
  WgmmaFence();
  MultiplyValues(loop.even + kRopeBox * kBoxBytes, loop.even + 4 * kBoxBytes, o);
  if constexpr (!kBoth) {
    WgmmaWait<0>();
  } else {
    WgmmaWait<1>();
    const StageInfo info = shared.info[1];
    ZeroTail<kFormat, 1>(shared, info, loop.thread);
    MaskAndMax(info, rows, loop.lane, s, max);
    max[0] = fmaxf(max[0], rows.max[0]);
    max[1] = fmaxf(max[1], rows.max[1]);
    float sum[2];
    Exponentiate(max, s, sum);
    uint32_t packed[16];
    Pack(s, packed);
    StoreP(packed, shared.stage[1] + kRopeBox * kBoxBytes, loop.warp, loop.lane);
    if (loop.lane % 4 == 0) {
      shared.pair_max[loop.row] = max[0];
      shared.pair_max[loop.row + 8] = max[1];
    }
    BarArrive(kOddReady, kMathThreads);
    WgmmaWait<0>();
    FreePart(shared, 0, kRight, loop.lane);
    FreePart(shared, 0, kRope, loop.lane);
    MoveTo(max, rows, o);
    rows.sum[0] += sum[0];
    rows.sum[1] += sum[1];
    WgmmaFence();
    MultiplyValues(packed, loop.odd + 4 * kBoxBytes, o);
    WgmmaWait<0>();
    FreePart(shared, 1, kRight, loop.lane);
  }
}

// --- The answer ---

// Gives each thread's two rows their normalised output and log-sum-exp (base 2). All math threads.
template <int kGroup>
__device__ __forceinline__ void Normalise(Shared& shared, uint32_t thread, Rows& rows,
                                          float (&o)[128], float (&lse)[2]) {
  const uint32_t lane = thread % 32;
  const uint32_t row = thread / 32 * 16 + lane / 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.sum[r] += __shfl_xor_sync(~0u, rows.sum[r], 1);
    rows.sum[r] += __shfl_xor_sync(~0u, rows.sum[r], 2);
    if (lane % 4 == 0) shared.row_sum[kGroup][row + 8 * r] = rows.sum[r];
  }
  BarSync(kMath, kMathThreads);
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float sum = rows.sum[r] + shared.row_sum[1 - kGroup][row + 8 * r];
    inverse[r] = sum == 0 ? 0.0f : 1.0f / sum;
    lse[r] = sum == 0 ? -INFINITY : rows.max[r] + Log2(sum);
  }
  ScaleOutput(inverse, o);
}

// A CTA by itself: straight from registers.
template <int kGroup>
__device__ __forceinline__ void StoreAnswer(const Work& work, const Assignment& mine,
                                            uint32_t thread, const float (&o)[128],
                                            const float (&lse)[2]) {
  const uint32_t lane = thread % 32;
  const uint32_t column = kGroup * 256 + lane % 4 * 2;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const uint32_t row = thread / 32 * 16 + lane / 4 + 8 * r;
    if (row >= mine.item.tile.rows) continue;
    if (mine.item.first_slot == kFinal) {
      const WorkRow& target = work.rows[mine.item.tile.first_row + row];
      bool good = true;
#pragma unroll
      for (int j = 0; j < 32; ++j) {
        good &= StoreOut2(target, column + 8 * j, o[4 * j + 2 * r], o[4 * j + 2 * r + 1]);
      }
      if (kGroup == 0 && lane % 4 == 0) good &= StoreLse(target, lse[r]);
      if (!good) ReportBadRow(work, target);
    } else {
      const uint64_t slot = mine.item.first_slot + row;
      float* out = work.partial_out + slot * kLatentWidth + column;
#pragma unroll
      for (int j = 0; j < 32; ++j) {
        *reinterpret_cast<float2*>(out + 8 * j) =
            make_float2(o[4 * j + 2 * r], o[4 * j + 2 * r + 1]);
      }
      if (kGroup == 0 && lane % 4 == 0) work.partial_lse[slot] = lse[r];
    }
  }
}

// A CTA's answer to its own shared memory, for the cluster. bf16: half the traffic for 0.3e-3 of
// error.
template <int kGroup>
__device__ __forceinline__ void OfferAnswer(Shared& shared, uint32_t thread, const float (&o)[128],
                                            const float (&lse)[2]) {
  const uint32_t lane = thread % 32;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const uint32_t row = thread / 32 * 16 + lane / 4 + 8 * r;
    std::byte* out =
        shared.stage[0] + row * kExchangeRowBytes + (kGroup * 256 + lane % 4 * 2) * sizeof(Bf16);
#pragma unroll
    for (int j = 0; j < 32; ++j) {
      *reinterpret_cast<uint32_t*>(out + 16 * j) = PackBf16(o[4 * j + 2 * r], o[4 * j + 2 * r + 1]);
    }
    if (kGroup == 0 && lane % 4 == 0) shared.lse[row] = lse[r];
  }
}

// How much each CTA's answer counts in each row, to shared memory; the cluster's log-sum-exps to
// where they belong. Four neighbouring threads a row, each for a quarter of the cluster.
__device__ __forceinline__ void WeighAnswers(const Work& work, Shared& shared,
                                             const Assignment& mine, uint32_t cluster_size,
                                             uint32_t rank, uint32_t thread, float* weights) {
  constexpr uint32_t kEach = kMaxClusterSize / 4;
  const uint32_t row = thread / 4;
  const uint32_t own = SharedAddress(&shared.lse[row]);
  float lse[kEach];
  float max = -INFINITY;
#pragma unroll
  for (uint32_t i = 0; i < kEach; ++i) {
    const uint32_t c = thread % 4 + 4 * i;
    lse[i] = c < cluster_size ? LoadClusterFloat(MapToRank(own, c)) : -INFINITY;
    max = fmaxf(max, lse[i]);
  }
  max = fmaxf(max, __shfl_xor_sync(~0u, max, 1));
  max = fmaxf(max, __shfl_xor_sync(~0u, max, 2));
  float sum = 0;
#pragma unroll
  for (uint32_t i = 0; i < kEach; ++i) {
    // A NaN makes everything one.
    lse[i] = Exp2(lse[i] - SafeMax(max));
    sum += lse[i];
  }
  sum += __shfl_xor_sync(~0u, sum, 1);
  sum += __shfl_xor_sync(~0u, sum, 2);
  const float inverse = sum == 0 ? 0.0f : __fdividef(1.0f, sum);
#pragma unroll
  for (uint32_t i = 0; i < kEach; ++i) {
    const uint32_t c = thread % 4 + 4 * i;
    if (c < cluster_size) weights[c * kTileRows + row] = lse[i] * inverse;
  }
  if (rank != 0 || thread % 4 != 0 || row >= mine.item.tile.rows) return;
  const float total = sum == 0 ? -INFINITY : max + Log2(sum);
  if (mine.item.first_slot == kFinal) {
    const WorkRow& target = work.rows[mine.item.tile.first_row + row];
    if (!StoreLse(target, total)) ReportBadRow(work, target);
  } else {
    work.partial_lse[mine.item.first_slot + row] = total;
  }
}

// Eight columns of one row, from every CTA of the cluster.
struct Gathered {
  static constexpr uint32_t kAtOnce = 8;
  uint4 v[kAtOnce];

  __device__ __forceinline__ void Load(uint32_t address, uint32_t first, uint32_t cluster_size) {
#pragma unroll
    for (uint32_t c = 0; c < kAtOnce; ++c) {
      if (first + c < cluster_size) v[c] = LoadCluster16(MapToRank(address, first + c));
    }
  }
  __device__ __forceinline__ void AddTo(float (&sum)[8], const float* weights, uint32_t first,
                                        uint32_t cluster_size) const {
#pragma unroll
    for (uint32_t c = 0; c < kAtOnce; ++c) {
      if (first + c >= cluster_size) continue;
      const float weight = weights[(first + c) * kTileRows];
      const uint32_t pairs[4] = {v[c].x, v[c].y, v[c].z, v[c].w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sum[2 * i] = fmaf(weight, LowBf16(pairs[i]), sum[2 * i]);
        sum[2 * i + 1] = fmaf(weight, HighBf16(pairs[i]), sum[2 * i + 1]);
      }
    }
  }
};

// Sums this CTA's share of the columns over the cluster and stores it.
__device__ __forceinline__ void CollectAnswers(const Work& work, Shared& shared,
                                               const Assignment& mine, uint32_t cluster_size,
                                               uint32_t rank, uint32_t thread) {
  auto* weights = reinterpret_cast<float*>(shared.stage[0] + kWeightsOffset);
  constexpr uint32_t kUnits = kLatentWidth / 8;  // of 16 bytes
  const uint32_t first_unit = kUnits * rank / cluster_size;
  const uint32_t units = kUnits * (rank + 1) / cluster_size - first_unit;
  const uint32_t all = mine.item.tile.rows * units;
  const uint32_t base = SharedAddress(shared.stage[0]) + first_unit * 16;
  auto address = [&](uint32_t index) {
    return base + index / units * kExchangeRowBytes + index % units * 16;
  };

  const bool final = mine.item.first_slot == kFinal;
  const WorkRow* rows = work.rows + mine.item.tile.first_row;

  // The next values, and where they go, travel while the present ones are summed; the first ones
  // while the weights are found.
  Gathered gathered;
  void* out = nullptr;
  OutFormat out_format = OutFormat::kBf16;
  auto start = [&](uint32_t index) {
    if (index >= all) return;
    gathered.Load(address(index), 0, cluster_size);
    if (final) {
      out = rows[index / units].out;
      out_format = rows[index / units].out_format;
    }
  };
  uint32_t index = thread;
  start(index);
  WeighAnswers(work, shared, mine, cluster_size, rank, thread, weights);
  BarSync(kMath, kMathThreads);
#pragma unroll 1
  while (index < all) {
    const uint32_t row = index / units;
    const uint32_t column = (first_unit + index % units) * 8;
    float sum[8] = {};
    gathered.AddTo(sum, weights + row, 0, cluster_size);
#pragma unroll 1
    for (uint32_t first = Gathered::kAtOnce; first < cluster_size; first += Gathered::kAtOnce) {
      gathered.Load(address(index), first, cluster_size);
      gathered.AddTo(sum, weights + row, first, cluster_size);
    }
    void* const to = out;
    const OutFormat to_format = out_format;
    index += kMathThreads;
    start(index);
    if (final) {
      if (!StoreOut8(to, to_format, column, sum)) ReportBadRow(work, rows[row]);
    } else {
      auto* partial = reinterpret_cast<float4*>(
          work.partial_out + uint64_t{mine.item.first_slot + row} * kLatentWidth + column);
      partial[0] = make_float4(sum[0], sum[1], sum[2], sum[3]);
      partial[1] = make_float4(sum[4], sum[5], sum[6], sum[7]);
    }
  }
}

template <RecordFormat kFormat, int kGroup>
__device__ __forceinline__ void Compute(const Work& work, Shared& shared, const Assignment& mine,
                                        uint32_t cluster_size, uint32_t rank) {
  const uint32_t thread = threadIdx.x % 128;
  LoadQueries(work, mine.item, shared, threadIdx.x);
  MbarrierArrive(SharedAddress(&shared.queries_loaded));
  Rows rows;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const uint32_t row = thread / 32 * 16 + thread % 32 / 4 + 8 * r;
    const bool real = row < mine.item.tile.rows;
    const WorkRow* from = &work.rows[mine.item.tile.first_row + (real ? row : 0)];
    rows.scale[r] = real ? __ldg(&from->scale_log2) : 0.0f;
    rows.hidden[r] = __ldg(&from->hidden_tokens);
    rows.max[r] = -INFINITY;
    rows.sum[r] = 0;
  }
  float o[128];
#pragma unroll
  for (int i = 0; i < 128; ++i) o[i] = 0;
  MbarrierWait(SharedAddress(&shared.queries_loaded), 0);

  const Loop loop(shared, thread);
  uint32_t pair = 0;
  for (; 2 * pair + 1 < mine.blocks; ++pair) {
    if constexpr (kGroup == 0) {
      EvenBlock<kFormat, true>(loop, pair & 1, rows, o);
    } else {
      OddBlock<kFormat, true>(loop, pair & 1, rows, o);
    }
  }
  if (mine.blocks % 2 == 1) {
    if constexpr (kGroup == 0) {
      EvenBlock<kFormat, false>(loop, pair & 1, rows, o);
    } else {
      OddBlock<kFormat, false>(loop, pair & 1, rows, o);
    }
  }
  float lse[2];
  Normalise<kGroup>(shared, thread, rows, o, lse);
  if (cluster_size == 1) {
    StoreAnswer<kGroup>(work, mine, thread, o, lse);
    return;
  }
  OfferAnswer<kGroup>(shared, thread, o, lse);
  ClusterArrive();
  ClusterWait();
  CollectAnswers(work, shared, mine, cluster_size, rank, threadIdx.x);
  // Nobody leaves while another still reads its memory. Everything read has been used, and nobody
  // in the cluster reads what was stored: relaxed, without waiting for the stores.
  ClusterArriveRelaxed();
  ClusterWait();
}

template <RecordFormat kFormat>
__global__ void __launch_bounds__(kThreads, 1)
    ThroughputKernel(const __grid_constant__ Arena arena, const Work work) {
  extern __shared__ std::byte raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  const uint32_t cluster_size = ClusterSize();
  const uint32_t rank = ClusterRank();
  Assignment mine;
  mine.item = work.items[blockIdx.x / cluster_size];
  const uint32_t blocks = mine.item.end_block - mine.item.first_block;
  mine.first_block = mine.item.first_block + blocks * rank / cluster_size;
  mine.blocks = mine.item.first_block + blocks * (rank + 1) / cluster_size - mine.first_block;

  if (threadIdx.x == kMathThreads) {
    for (uint32_t stage = 0; stage < kStages; ++stage) {
      for (uint32_t part = 0; part < kParts; ++part) {
        MbarrierInit(SharedAddress(&shared.ready[stage][part]),
                     kFormat == RecordFormat::kBf16 ? 1 : 128);
        MbarrierInit(SharedAddress(&shared.free[stage][part]), 4);
      }
    }
    MbarrierInit(SharedAddress(&shared.queries_loaded), kMathThreads);
    FenceMbarrierInit();
    FenceProxyAsync();
  }
  __syncthreads();
  // Whoever merges partials may get ready meanwhile.
  GridLaunchDependents();

  if (threadIdx.x >= kMathThreads) {
    DecreaseRegisters<Registers<kFormat>::kLoad>();
    const uint32_t thread = threadIdx.x - kMathThreads;
    if (mine.blocks > 0 && (kFormat == RecordFormat::kFp8 || thread == 0)) {
      Load<kFormat>(arena, work, shared, mine, thread);
    }
  } else if (threadIdx.x < 128) {
    IncreaseRegisters<Registers<kFormat>::kMath>();
    Compute<kFormat, 0>(work, shared, mine, cluster_size, rank);
  } else {
    IncreaseRegisters<Registers<kFormat>::kMath>();
    Compute<kFormat, 1>(work, shared, mine, cluster_size, rank);
  }
}

using Kernel = void (*)(Arena, Work);

Kernel KernelFor(RecordFormat format) {
  return format == RecordFormat::kBf16 ? ThroughputKernel<RecordFormat::kBf16>
                                       : ThroughputKernel<RecordFormat::kFp8>;
}

}  // namespace

cudaError_t PrepareThroughputKernels() {
  for (RecordFormat format : {RecordFormat::kBf16, RecordFormat::kFp8}) {
    const auto* kernel = reinterpret_cast<const void*>(KernelFor(format));
    cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared));
    if (error != cudaSuccess) return error;
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

int MaxActiveThroughputClusters(uint32_t cluster_size) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(cluster_size * 8);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = sizeof(Shared);
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {cluster_size, 1, 1};
  config.attrs = &attribute;
  config.numAttrs = 1;
  int clusters = 0;
  const cudaError_t error = cudaOccupancyMaxActiveClusters(
      &clusters, reinterpret_cast<const void*>(KernelFor(RecordFormat::kBf16)), &config);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return clusters;
}

cudaError_t LaunchThroughput(const Arena& arena, const Work& work, uint32_t items,
                             uint32_t cluster_size, cudaStream_t stream) {
  if (items == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(items * cluster_size);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = sizeof(Shared);
  config.stream = stream;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {cluster_size, 1, 1};
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, KernelFor(arena.format), arena, work);
}

}  // namespace latentd
