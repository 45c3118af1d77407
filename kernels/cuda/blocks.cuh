// Bringing blocks of 64 records into shared memory as the matrix products want them: nine *boxes*
// of 64 tokens x 64 values, bf16, 128-byte swizzled; boxes 0 to 7 are the latent values, box 8 the
// rope values. bf16 records come by TMA; fp8 records are dequantised by a warpgroup on the way.
#ifndef LATENTD_KERNELS_CUDA_BLOCKS_CUH_
#define LATENTD_KERNELS_CUDA_BLOCKS_CUH_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/work.h"

namespace latentd {

inline constexpr uint32_t kBoxBytes = 64 * 128;
inline constexpr uint32_t kLatentBoxes = 8;
inline constexpr uint32_t kRopeBox = 8;
inline constexpr uint32_t kBoxes = 9;
inline constexpr uint32_t kBlockBytes = kBoxes * kBoxBytes;
inline constexpr uint32_t kRecordBytesBf16 = 1152;
inline constexpr uint32_t kRecordBytesFp8 = 656;
inline constexpr uint32_t kRopeOffsetFp8 = 528;
inline constexpr uint32_t kLatentWidth = 512;
inline constexpr uint32_t kRowBytes = 1152;  // of a query

// The byte offset of the 16 bytes that hold values 8 * chunk ... of row `row` of a box.
__device__ __forceinline__ uint32_t Swizzled(uint32_t row, uint32_t chunk) {
  return row * 128 + ((chunk ^ (row & 7)) << 4);
}

// Walks the blocks of a tile: which page holds block b, and how far into its span it starts.
class BlockWalk {
 public:
  // At block `first_block + offset` of the item's tile.
  __device__ __forceinline__ BlockWalk(const Work& work, const WorkItem& item, uint32_t offset)
      : next_span_(work.spans + item.span_index + 1),
        span_(item.span),
        block_in_span_(item.block_in_span + offset) {
    Settle();
  }
  __device__ __forceinline__ const WorkSpan& span() const { return span_; }
  __device__ __forceinline__ uint32_t page() const { return span_.page_ids[block_in_span_]; }
  __device__ __forceinline__ uint32_t first_token() const { return block_in_span_ * kPageTokens; }
  // Tokens of the block that anybody sees; 64 or more: all of them.
  __device__ __forceinline__ uint32_t tokens() const {
    return span_.visible_tokens - first_token();
  }
  // REQUIRES: there is a next block.
  __device__ __forceinline__ void Next() {
    ++block_in_span_;
    Settle();
  }

 private:
  __device__ __forceinline__ void Settle() {
    for (;;) {
      const uint32_t blocks = (span_.visible_tokens + kPageTokens - 1) / kPageTokens;
      if (block_in_span_ < blocks) return;
      block_in_span_ -= blocks;
      span_ = *next_span_++;
    }
  }

  const WorkSpan* next_span_;
  WorkSpan span_;
  uint32_t block_in_span_;
};

// Two e4m3 values times a scale, as two bf16.
__device__ __forceinline__ uint32_t DequantisePair(uint32_t pair, float scale) {
  const uint32_t halves = ptx::E4m3ToF16(pair);
  const float2 values = __half22float2(*reinterpret_cast<const __half2*>(&halves));
  return ptx::PackBf16(values.x * scale, values.y * scale);
}

// Dequantises values [256 * half, 256 * half + 256) of a page's first `tokens` records into boxes
// 4 * half ... of the block at `block` (a generic pointer to shared memory); the other tokens
// become zeros. By `kThreads` threads.
template <int kThreads>
__device__ __forceinline__ void DequantiseHalf(const std::byte* records, uint32_t tokens,
                                               uint32_t half, std::byte* block, uint32_t thread) {
  constexpr int kChunks = 64 * 16 / kThreads;  // of 16 values, for each thread
  constexpr int kAtOnce = kChunks < 8 ? kChunks : 8;
#pragma unroll 1
  for (int first = 0; first < kChunks; first += kAtOnce) {
    uint4 bytes[kAtOnce];
    float scale[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const uint32_t index = thread + (first + i) * kThreads;
      const uint32_t token = index / 16;
      const uint32_t chunk = index % 16;
      const std::byte* record = records + token * kRecordBytesFp8;
      bytes[i] = make_uint4(0, 0, 0, 0);
      scale[i] = 0;
      if (token < tokens) {
        bytes[i] = __ldg(reinterpret_cast<const uint4*>(record + half * 256 + chunk * 16));
        scale[i] = __ldg(reinterpret_cast<const float*>(record + 512) + half * 2 + chunk / 8);
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const uint32_t index = thread + (first + i) * kThreads;
      const uint32_t token = index / 16;
      const uint32_t chunk = index % 16;
      std::byte* box = block + (half * 4 + chunk / 4) * kBoxBytes;
      const uint32_t words[4] = {bytes[i].x, bytes[i].y, bytes[i].z, bytes[i].w};
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const uint32_t a = words[2 * part];
        const uint32_t b = words[2 * part + 1];
        *reinterpret_cast<uint4*>(box + Swizzled(token, chunk % 4 * 2 + part)) =
            make_uint4(DequantisePair(a, scale[i]), DequantisePair(a >> 16, scale[i]),
                       DequantisePair(b, scale[i]), DequantisePair(b >> 16, scale[i]));
      }
    }
  }
}

// The rope values of a page's first `tokens` fp8 records into the block's rope box.
template <int kThreads>
__device__ __forceinline__ void CopyRope(const std::byte* records, uint32_t tokens,
                                         std::byte* block, uint32_t thread) {
#pragma unroll
  for (uint32_t index = thread; index < 64 * 8; index += kThreads) {
    const uint32_t token = index / 8;
    uint4 bytes = make_uint4(0, 0, 0, 0);
    if (token < tokens) {
      bytes =
          __ldg(reinterpret_cast<const uint4*>(records + token * kRecordBytesFp8 + kRopeOffsetFp8) +
                index % 8);
    }
    *reinterpret_cast<uint4*>(block + kRopeBox * kBoxBytes + Swizzled(token, index % 8)) = bytes;
  }
}

// Overwrites tokens [tokens, 64) of a block's latent boxes with zeros: a probability of zero times
// a NaN in an unused record would be a NaN. By `kThreads` threads, each of which fences.
template <int kThreads>
__device__ __forceinline__ void ZeroUnusedTokens(std::byte* block, uint32_t tokens,
                                                 uint32_t thread) {
  for (uint32_t index = thread; index < (64 - tokens) * kLatentBoxes * 8; index += kThreads) {
    const uint32_t row = tokens + index / 64;
    *reinterpret_cast<uint4*>(block + index % 64 / 8 * kBoxBytes + row * 128 + index % 8 * 16) =
        make_uint4(0, 0, 0, 0);
  }
  ptx::FenceProxyAsync();
}

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_BLOCKS_CUH_
