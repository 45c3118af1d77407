// The narrow form's way in: fp8 records and the tile's rows to shared memory, as f16. See narrow.cu.
#ifndef LATENTD_KERNELS_CUDA_NARROW_LOAD_CUH_
#define LATENTD_KERNELS_CUDA_NARROW_LOAD_CUH_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/arena.h"
#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/narrow_cta.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/work.h"

namespace latentd::narrow {

using namespace ptx;  // NOLINT: one wrapper per instruction, most of them used here

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

}  // namespace latentd::narrow

#endif  // LATENTD_KERNELS_CUDA_NARROW_LOAD_CUH_
