// What the parts of the narrow form share: a CTA's threads and shared memory. See narrow.cu.
#ifndef LATENTD_KERNELS_CUDA_NARROW_CTA_CUH_
#define LATENTD_KERNELS_CUDA_NARROW_CTA_CUH_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/work.h"

namespace latentd::narrow {

using namespace ptx;  // NOLINT: one wrapper per instruction, most of them used here

inline constexpr uint32_t kRows = kNarrowRows;
inline constexpr uint32_t kScoreThreads = 128;
inline constexpr uint32_t kValueThreads = 128;
inline constexpr uint32_t kMathThreads = kScoreThreads + kValueThreads;
inline constexpr uint32_t kConvertThreads = 256;
inline constexpr uint32_t kConvertWarps = kConvertThreads / 32;
inline constexpr uint32_t kThreads = kMathThreads + kConvertThreads + 32;
inline constexpr uint32_t kTiles = 2;
inline constexpr uint32_t kSlots = 5;
inline constexpr uint32_t kSlotTokens = 16;
inline constexpr uint32_t kSlotBytes = kSlotTokens * kRecordBytesFp8;
inline constexpr uint32_t kSlotsPerBlock = kPageTokens / kSlotTokens;
inline constexpr uint32_t kRowBoxBytes = kRows * 128;
inline constexpr uint32_t kScales = 4;  // of a record
// How far above its base, in powers of two, a row's logits may go before the base moves.
inline constexpr float kSlack = 8;
inline constexpr int kOwnRows = kRows / 4;  // that a thread holds values of
inline constexpr int kAccumulators = kRows / 2;

// Named barriers.
enum : uint32_t { kScores = 1, kMath = 2 };

struct alignas(1024) Shared {
  std::byte tile[kTiles][kBlockBytes];
  std::byte q[kBoxes * kRowBoxBytes];
  std::byte p[kScales][kRowBoxBytes];
  std::byte raw[kSlots][kSlotBytes];
  float4 scales[kTiles][kPageTokens];
  float max[2][4][kRows];  // by warp
  float max_scale[2][4];
  float row_factor[kRows];  // of the latent part of a row's logits
  uint32_t moves[kTiles];   // whether the output so far needs the factor
  float factor[kTiles][kRows];
  float sum[4][kRows];
  float final_base[kRows];
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

}  // namespace latentd::narrow

#endif  // LATENTD_KERNELS_CUDA_NARROW_CTA_CUH_
