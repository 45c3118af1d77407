// What the parts of the throughput form share: a CTA's shared memory and what it is to do.
#ifndef LATENTD_KERNELS_CUDA_THROUGHPUT_CTA_CUH_
#define LATENTD_KERNELS_CUDA_THROUGHPUT_CTA_CUH_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/work.h"

namespace latentd::throughput {

using namespace ptx;  // NOLINT: one wrapper per instruction, all of them used here

inline constexpr int kThreads = 384;
inline constexpr int kMathThreads = 256;
inline constexpr int kStages = 2;

enum Part : uint32_t { kLeft = 0, kRight = 1, kRope = 2, kParts = 3 };

// Named barriers.
enum : uint32_t { kEvenReady = 1, kOddReady = 2, kGroup0 = 3, kMath = 5, kEvenStarted = 6 };

struct StageInfo {
  uint32_t visible_tokens;
  uint32_t tokens_after;
  uint32_t first_token;
  uint32_t unused;
};

struct alignas(1024) Shared {
  std::byte q[kBlockBytes];
  std::byte stage[kStages][kBlockBytes];
  float even_base[kTileRows];
  float odd_base[kTileRows];
  float row_sum[2][kTileRows];
  // (base, sum of each warpgroup's blocks), for the cluster.
  float4 statistics[kTileRows];
  StageInfo info[kStages];
  uint64_t ready[kStages][kParts];
  uint64_t free[kStages][kParts];
  uint64_t queries_loaded;
};

// CTAs that sum what they found of one item, at most.
inline constexpr uint32_t kMaxSplit = 8;

struct Assignment {
  WorkItem item;
  uint32_t first_block;  // of this CTA
  uint32_t blocks;
};

}  // namespace latentd::throughput

#endif  // LATENTD_KERNELS_CUDA_THROUGHPUT_CTA_CUH_
