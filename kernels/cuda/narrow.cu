// Up to 16 rows over a run of blocks of fp8 records: few rows a chunk, long contexts, bound by
// memory. A tile of 64 rows would waste three quarters of the tensor cores and of the room that
// rows take; here rows are the N of both products, as in the latency form:
//
//   S[tokens][rows]   = K[tokens][576] * Q[rows][576]^T
//   O[columns][rows]  = V[tokens][512]^T * P[rows][tokens]^T
//
// Both products take e4m3 values as they are, as f16: exact, and one instruction for two of them,
// where scaling them to bf16 takes six and is the bound. Scales go where there is less to multiply:
// S is summed over each scale's 128 columns apart, and P is multiplied by each token's scale, once
// for each of the four. Rows are scaled to f16 by powers of two (the rope columns stay bf16), and
// so is P: 2^shift, so that the largest scale seen so far becomes about 2^7.
//
// One step of the way for each warpgroup, each a block behind the one before:
//
//   a thread         16 records at a time as they are (contiguous bytes)     -> raw[4]
//   two warpgroups   e4m3 to f16 boxes                                       -> tile[2], scales[2]
//   a warpgroup      S, the rows' maxima so far, P                           -> p[2], factor[2]
//   a warpgroup      O = O factor + V P; then the block's tile and P are free
#include <cmath>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/narrow.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/cuda/work.h"

namespace latentd {
namespace {

using namespace ptx;  // NOLINT: one wrapper per instruction, most of them used here

constexpr uint32_t kRows = kNarrowRows;
constexpr uint32_t kScoreThreads = 128;
constexpr uint32_t kValueThreads = 128;
constexpr uint32_t kMathThreads = kScoreThreads + kValueThreads;
constexpr uint32_t kConvertThreads = 256;
constexpr uint32_t kConvertWarps = kConvertThreads / 32;
constexpr uint32_t kThreads = kMathThreads + kConvertThreads + 32;
constexpr uint32_t kTiles = 2;
constexpr uint32_t kSlots = 4;
constexpr uint32_t kSlotTokens = 16;
constexpr uint32_t kSlotBytes = kSlotTokens * kRecordBytesFp8;
constexpr uint32_t kSlotsPerBlock = kPageTokens / kSlotTokens;
constexpr uint32_t kRowBoxBytes = kRows * 128;
constexpr uint32_t kScales = 4;      // of a record
constexpr int kOwnRows = kRows / 4;  // that a thread holds values of
constexpr int kAccumulators = kRows / 2;

// Named barriers.
enum : uint32_t { kScores = 1, kMath = 2 };

struct alignas(1024) Shared {
  std::byte tile[kTiles][kBlockBytes];
  std::byte q[kBoxes * kRowBoxBytes];
  std::byte p[kTiles][kScales][kRowBoxBytes];
  std::byte raw[kSlots][kSlotBytes];
  float4 scales[kTiles][kPageTokens];
  float max[2][4][kRows];  // by warp
  float max_scale[2][4];
  float row_factor[kRows];  // of the latent part of a row's logits
  float factor[kTiles][kRows];
  float sum[4][kRows];
  float final_max[kRows];
  int final_shift;
  uint64_t raw_ready[kSlots];
  uint64_t raw_free[kSlots];
  uint64_t tile_ready[kTiles];
  uint64_t tile_free[kTiles];
  uint64_t p_ready[kTiles];
};
static_assert(kTiles == 2);  // parities below

// The row of the tile that a thread's value i belongs to.
__device__ __forceinline__ uint32_t RowOf(uint32_t lane, int i) {
  return 8 * (i / 2) + lane % 4 * 2 + i % 2;
}

// After this warp's writes or reads: one arrival for all of it.
__device__ __forceinline__ void WarpArrive(uint64_t& bar, uint32_t lane) {
  __syncwarp();
  if (lane == 0) MbarrierArrive(SharedAddress(&bar));
}

// --- Records in ---

// One thread.
__device__ __forceinline__ void Load(const Arena& arena, const Work& work, const WorkItem& item,
                                     Shared& shared) {
  const uint32_t blocks = item.end_block - item.first_block;
  BlockWalk walk(work, item, 0);
  uint32_t page = walk.page();
  for (uint32_t b = 0; b < blocks; ++b) {
    const std::byte* records = arena.cache.arena + page * arena.cache.page_bytes +
                               item.tile.layer * arena.cache.layer_bytes;
    const uint32_t tokens = walk.tokens();
    if (b + 1 < blocks) {
      walk.Next();
      page = walk.page();
    }
#pragma unroll 1
    for (uint32_t part = 0; part < kSlotsPerBlock; ++part) {
      const uint32_t n = b * kSlotsPerBlock + part;
      const uint32_t slot = n % kSlots;
      const uint32_t ready = SharedAddress(&shared.raw_ready[slot]);
      MbarrierWait(SharedAddress(&shared.raw_free[slot]), (n / kSlots & 1) ^ 1);
      if (part * kSlotTokens < tokens) {
        MbarrierExpect(ready, kSlotBytes);
        CopyBulk(SharedAddress(shared.raw[slot]), records + part * kSlotBytes, kSlotBytes, ready);
      } else {
        MbarrierArrive(ready);
      }
    }
  }
}

// 16 records from a slot to rows [16 * part, 16 * part + 16) of a tile; zeros for those from
// `tokens` on. Eight neighbouring lanes take the same values of eight tokens: neither reads nor
// writes meet in a bank.
__device__ __forceinline__ void Convert(const std::byte* raw, std::byte* tile, float4* scales,
                                        uint32_t part, uint32_t tokens, uint32_t thread) {
  const uint32_t lane = thread % 32;
  const uint32_t chunk = thread / 32 * 4 + lane / 8;  // of 16 values
  uint4 bytes[2];
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t token = lane % 8 + 8 * i;
    bytes[i] = *reinterpret_cast<const uint4*>(raw + token * kRecordBytesFp8 + chunk * 16);
    if (part * kSlotTokens + token >= tokens) bytes[i] = make_uint4(0, 0, 0, 0);
  }
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t row = part * kSlotTokens + lane % 8 + 8 * i;
    std::byte* box = tile + chunk / 4 * kBoxBytes;
    const uint32_t words[4] = {bytes[i].x, bytes[i].y, bytes[i].z, bytes[i].w};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t a = words[2 * half];
      const uint32_t b = words[2 * half + 1];
      *reinterpret_cast<uint4*>(box + Swizzled(row, chunk % 4 * 2 + half)) =
          make_uint4(E4m3ToF16(a), E4m3ToF16(a >> 16), E4m3ToF16(b), E4m3ToF16(b >> 16));
    }
  }
  // The rope values and the scales, by one half of the threads and the other in turn.
  if (thread / 128 != part % 2) return;
  const uint32_t token = thread % 8 + thread / 64 % 2 * 8;
  const uint32_t row = part * kSlotTokens + token;
  const uint32_t rope_chunk = thread / 8 % 8;
  const std::byte* record = raw + token * kRecordBytesFp8;
  uint4 v = *reinterpret_cast<const uint4*>(record + kRopeOffsetFp8 + rope_chunk * 16);
  if (row >= tokens) v = make_uint4(0, 0, 0, 0);
  *reinterpret_cast<uint4*>(tile + kRopeBox * kBoxBytes + Swizzled(row, rope_chunk)) = v;
  if (rope_chunk == 0) {
    float4 scale = *reinterpret_cast<const float4*>(record + kLatentWidth);
    if (row >= tokens) scale = make_float4(0, 0, 0, 0);
    scales[row] = scale;
  }
}

__device__ __forceinline__ void ConvertAll(const Work& work, const WorkItem& item, Shared& shared,
                                           uint32_t thread) {
  const uint32_t blocks = item.end_block - item.first_block;
  BlockWalk walk(work, item, 0);
  uint32_t slot = 0;
  uint32_t slot_parity = 0;
  for (uint32_t b = 0; b < blocks; ++b) {
    const uint32_t tokens = walk.tokens();
    if (b + 1 < blocks) walk.Next();
    MbarrierWait(SharedAddress(&shared.tile_free[b % 2]), (b / 2 & 1) ^ 1);
#pragma unroll 1
    for (uint32_t part = 0; part < kSlotsPerBlock; ++part) {
      MbarrierWait(SharedAddress(&shared.raw_ready[slot]), slot_parity);
      Convert(shared.raw[slot], shared.tile[b % 2], shared.scales[b % 2], part, tokens, thread);
      WarpArrive(shared.raw_free[slot], thread % 32);
      if (++slot == kSlots) {
        slot = 0;
        slot_parity ^= 1;
      }
    }
    FenceProxyAsync();
    WarpArrive(shared.tile_ready[b % 2], thread % 32);
  }
}

// --- Scores ---

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
  float max[kOwnRows];
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

// The largest logit of each row and the largest scale, over the block.
__device__ __forceinline__ void FindLargest(Shared& shared, uint32_t b, uint32_t warp,
                                            uint32_t lane, float (&max)[kOwnRows], float& scale) {
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
  for (int w = 0; w < 4; ++w) {
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i) {
      max[i] = fmaxf(max[i], shared.max[b % 2][w][RowOf(lane, i)]);
    }
    scale = fmaxf(scale, shared.max_scale[b % 2][w]);
  }
}

// The shift that makes `scale` about 2^7.
__device__ __forceinline__ int ShiftFor(float scale) {
  return min(max(134 - static_cast<int>(__float_as_uint(scale) >> 23), -100), 100);
}

// From S of block b to P, and the factor that the output so far needs.
__device__ __forceinline__ void Softmax(Shared& shared, uint32_t b, const WorkSpan& span,
                                        uint32_t first_token, uint32_t thread, Rows& rows,
                                        const Scores& s) {
  const uint32_t warp = thread / 32;
  const uint32_t lane = thread % 32;
  const uint32_t own = warp * 16 + lane / 4;
  const float4 scales[2] = {shared.scales[b % 2][own], shared.scales[b % 2][own + 8]};
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
  }
  float max_scale = 0;
#pragma unroll
  for (int i = 0; i < static_cast<int>(kScales); ++i) {
    max_scale = fmaxf(max_scale, fmaxf(Of(scales[0], i), Of(scales[1], i)));
  }
  FindLargest(shared, b, warp, lane, max, max_scale);

  int shift = rows.shift;
  if (max_scale > rows.max_scale) {
    shift = ShiftFor(max_scale);
    rows.max_scale = max_scale;
  }
  const float unit = Exp2(static_cast<float>(shift));
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    const float before = rows.max[i];
    rows.max[i] = fmaxf(before, max[i]);
    const float safe = SafeMax(rows.max[i]);
    const float factor = Exp2(before - safe);
    p[0][i] = Exp2(p[0][i] - safe);
    p[1][i] = Exp2(p[1][i] - safe);
    rows.sum[i] = fmaf(rows.sum[i], factor, p[0][i] + p[1][i]);
    if (warp == 0 && lane < 4) {
      shared.factor[b % 2][RowOf(lane, i)] = factor * Exp2(static_cast<float>(shift - rows.shift));
    }
  }
  rows.shift = shift;
#pragma unroll
  for (int i = 0; i < static_cast<int>(kScales); ++i) {
    const float a = Of(scales[0], i) * unit;
    const float z = Of(scales[1], i) * unit;
    const uint32_t packed[kOwnRows] = {
        PackF16(p[0][0] * a, p[0][1] * a), PackF16(p[1][0] * z, p[1][1] * z),
        PackF16(p[0][2] * a, p[0][3] * a), PackF16(p[1][2] * z, p[1][3] * z)};
    StoreP(SharedAddress(shared.p[b % 2][i]), packed, warp, lane);
  }
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
    rows.max[i] = -INFINITY;
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
    // A tile is ready only after its last block's P was used: this block's takes its place.
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
      if (warp == 0) shared.final_max[RowOf(lane, i)] = rows.max[i];
    }
  }
  if (thread == 0) shared.final_shift = rows.shift;
  BarArrive(kMath, kMathThreads);
}

// --- Values ---

// Neighbouring lanes (four apart) hold neighbouring columns of two rows: each takes one row's pair
// of columns.
__device__ __forceinline__ void StoreAnswer(const Work& work, const WorkItem& item, uint32_t warp,
                                            uint32_t lane, const float (&lse)[kOwnRows],
                                            const float (&o)[kLatentBoxes][kAccumulators]) {
  const bool second = (lane & 4) != 0;
  const bool final = item.first_slot == kFinal;
#pragma unroll
  for (int j = 0; j < kOwnRows / 2; ++j) {
    const uint32_t row = 8 * j + lane % 4 * 2 + second;
    const bool real = row < item.tile.rows;
    const WorkRow& target = work.rows[item.tile.first_row + (real ? row : 0)];
    bool good = true;
#pragma unroll
    for (int t = 0; t < static_cast<int>(kLatentBoxes); ++t) {
      const float* v = &o[t][4 * j];
      const float x = __shfl_xor_sync(~0u, second ? v[0] : v[1], 4);
      const float z = __shfl_xor_sync(~0u, second ? v[2] : v[3], 4);
      const float2 low = second ? make_float2(x, v[1]) : make_float2(v[0], x);
      const float2 high = second ? make_float2(z, v[3]) : make_float2(v[2], z);
      const uint32_t column = t * 64 + warp * 16 + (lane / 4 & ~1u);
      if (!real) continue;
      if (final) {
        good &= StoreOut2(target, column, low.x, low.y);
        good &= StoreOut2(target, column + 8, high.x, high.y);
      } else {
        float* out = work.partial_out + uint64_t{item.first_slot + row} * kLatentWidth + column;
        *reinterpret_cast<float2*>(out) = low;
        *reinterpret_cast<float2*>(out + 8) = high;
      }
    }
    if (!real) continue;
    if (warp == 0 && lane / 4 <= 1) {
      const float value = second ? lse[2 * j + 1] : lse[2 * j];
      if (final) {
        good &= StoreLse(target, value);
      } else {
        work.partial_lse[item.first_slot + row] = value;
      }
    }
    if (!good) ReportBadRow(work, target);
  }
}

__device__ __forceinline__ void MultiplyValues(uint32_t v, uint32_t p,
                                               float (&o)[kLatentBoxes][kAccumulators]) {
  WgmmaFence();
#pragma unroll
  for (uint32_t t = 0; t < kLatentBoxes; ++t) {
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) {
      WgmmaF16<1>(o[t], MatrixDescriptor(v + t * kBoxBytes + k * 2048, 1024, kBoxBytes),
                  MatrixDescriptor(p + t / 2 * kRowBoxBytes + k * 32), true);
    }
  }
  WgmmaCommit();
  WgmmaWait<0>();
}

__device__ __forceinline__ void ScaleOutput(const float (&factor)[kOwnRows],
                                            float (&o)[kLatentBoxes][kAccumulators]) {
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
#pragma unroll
    for (auto& box : o) {
      box[4 * (i / 2) + i % 2] *= factor[i];
      box[4 * (i / 2) + 2 + i % 2] *= factor[i];
    }
  }
}

__device__ __forceinline__ void Value(const Work& work, const WorkItem& item, Shared& shared,
                                      uint32_t thread) {
  const uint32_t lane = thread % 32;
  const uint32_t blocks = item.end_block - item.first_block;
  float o[kLatentBoxes][kAccumulators];
#pragma unroll
  for (auto& box : o) {
#pragma unroll
    for (float& v : box) v = 0;
  }
  float factor[kOwnRows];
  for (uint32_t b = 0; b < blocks; ++b) {
    MbarrierWait(SharedAddress(&shared.p_ready[b % 2]), b / 2 & 1);
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i) factor[i] = shared.factor[b % 2][RowOf(lane, i)];
    ScaleOutput(factor, o);
    MultiplyValues(SharedAddress(shared.tile[b % 2]), SharedAddress(shared.p[b % 2][0]), o);
    WarpArrive(shared.tile_free[b % 2], lane);
  }
  BarSync(kMath, kMathThreads);
  float lse[kOwnRows];
  const float unit = Exp2(-static_cast<float>(shared.final_shift));
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < 4; ++w) sum += shared.sum[w][RowOf(lane, i)];
    factor[i] = sum == 0 ? 0.0f : unit / sum;
    lse[i] = sum == 0 ? -INFINITY : shared.final_max[RowOf(lane, i)] + Log2(sum);
  }
  ScaleOutput(factor, o);
  StoreAnswer(work, item, thread / 32, lane, lse, o);
}

// --- The kernel ---

// Eight bf16 values times a factor, as f16.
__device__ __forceinline__ uint4 ToF16(const uint4& v, float factor) {
  auto pair = [factor](uint32_t x) { return PackF16(LowBf16(x) * factor, HighBf16(x) * factor); };
  return make_uint4(pair(v.x), pair(v.y), pair(v.z), pair(v.w));
}

__device__ __forceinline__ float Largest(const uint4& v) {
  float largest = 0;
  for (uint32_t x : {v.x, v.y, v.z, v.w}) {
    largest = fmaxf(largest, fmaxf(fabsf(LowBf16(x)), fabsf(HighBf16(x))));
  }
  return largest;
}

// The tile's rows to the nine boxes of q; rows beyond the tile's are zeros. A warp takes a row: the
// latent part becomes f16, its largest value 2^14 or more, where 2^-39 of it is not yet nothing.
__device__ __forceinline__ void LoadQueries(const Work& work, const WorkItem& item, Shared& shared,
                                            uint32_t thread) {
  const uint32_t lane = thread % 32;
  for (uint32_t row = thread / 32; row < kRows; row += kMathThreads / 32) {
    uint4 latent[2] = {};
    uint4 rope = {};
    if (row < item.tile.rows) {
      const auto* from = reinterpret_cast<const uint4*>(work.rows[item.tile.first_row + row].query);
      latent[0] = __ldg(from + lane);
      latent[1] = __ldg(from + 32 + lane);
      if (lane < 8) rope = __ldg(from + 64 + lane);
    }
    float largest = fmaxf(Largest(latent[0]), Largest(latent[1]));
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
    }
    // Powers of two: of a row of zeros, of subnormals, and of what is not finite too.
    const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
    const int shift = min(14 - exponent, 120);
    const float factor = Exp2(static_cast<float>(shift));
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const uint32_t chunk = lane + 32 * i;
      *reinterpret_cast<uint4*>(shared.q + chunk / 8 * kRowBoxBytes + Swizzled(row, chunk % 8)) =
          ToF16(latent[i], factor);
    }
    if (lane < 8) {
      *reinterpret_cast<uint4*>(shared.q + kRopeBox * kRowBoxBytes + Swizzled(row, lane)) = rope;
    }
    if (lane == 0) shared.row_factor[row] = Exp2(-static_cast<float>(shift));
  }
  FenceProxyAsync();
}

__device__ __forceinline__ void InitBarriers(Shared& shared) {
  for (uint32_t i = 0; i < kSlots; ++i) {
    MbarrierInit(SharedAddress(&shared.raw_ready[i]), 1);
    MbarrierInit(SharedAddress(&shared.raw_free[i]), kConvertWarps);
  }
  for (uint32_t i = 0; i < kTiles; ++i) {
    MbarrierInit(SharedAddress(&shared.tile_ready[i]), kConvertWarps);
    MbarrierInit(SharedAddress(&shared.tile_free[i]), kValueThreads / 32);
    MbarrierInit(SharedAddress(&shared.p_ready[i]), kScoreThreads / 32);
  }
  FenceMbarrierInit();
  FenceProxyAsync();
}

__global__ void __launch_bounds__(kThreads, 1)
    NarrowKernel(const __grid_constant__ Arena arena, const Work work) {
  extern __shared__ std::byte raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  const WorkItem item = work.items[blockIdx.x];
  if (threadIdx.x == kMathThreads) InitBarriers(shared);
  __syncthreads();
  // Whoever merges partials may get ready meanwhile.
  GridLaunchDependents();
  if (threadIdx.x < kMathThreads) {
    LoadQueries(work, item, shared, threadIdx.x);
    BarSync(kMath, kMathThreads);
    if (threadIdx.x < kScoreThreads) {
      Score(work, item, shared, threadIdx.x);
    } else {
      Value(work, item, shared, threadIdx.x - kScoreThreads);
    }
  } else if (threadIdx.x < kMathThreads + kConvertThreads) {
    ConvertAll(work, item, shared, threadIdx.x - kMathThreads);
  } else if (threadIdx.x == kMathThreads + kConvertThreads) {
    Load(arena, work, item, shared);
  }
}

}  // namespace

cudaError_t PrepareNarrowKernel() {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(NarrowKernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared));
}

cudaError_t LaunchNarrow(const Arena& arena, const Work& work, uint32_t items,
                         cudaStream_t stream) {
  if (items == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(items);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = sizeof(Shared);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, NarrowKernel, arena, work);
}

}  // namespace latentd
