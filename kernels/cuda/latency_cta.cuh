// What the parts of the latency form share: how a CTA's shared memory is laid out, and what each of
// its threads knows. See latency.cuh.
#ifndef LATENTD_KERNELS_CUDA_LATENCY_CTA_CUH_
#define LATENTD_KERNELS_CUDA_LATENCY_CTA_CUH_

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/work.h"

namespace latentd {

inline constexpr int kLatencyMathThreads = 256;
inline constexpr int kLatencyThreads = kLatencyMathThreads + 32;

template <int kHeads, int kCluster, int kBlocks>
struct Latency {
  static constexpr int kParts = 3;  // of a block, three boxes each
  static constexpr uint32_t kPartBytes = 3 * kBoxBytes;
  static constexpr uint32_t kRowBoxBytes = kHeads * 128;
  // Columns that one CTA finishes, in slabs of the 16 that a warp's fragment spans.
  static constexpr int kOwnColumns = kLatentWidth / kCluster;
  static constexpr int kSlabs = kOwnColumns / 16;
  static constexpr uint32_t kSlabBytes = kHeads / 8 * 32 * 8;
  static constexpr uint32_t kSourceBytes = kSlabs * kSlabBytes;
  // Fragments of four values (two columns eight apart, two heads) that a CTA finishes.
  static constexpr int kFragments = kSlabs * (kHeads / 8) * 32;

  struct alignas(1024) Shared {
    std::byte block[kBlocks][kBlockBytes];
    std::byte q[kBoxes * kRowBoxBytes];
    std::byte received[kCluster * kSourceBytes];
    std::byte p[kBlocks][kHeads * 128];
    float4 statistics[kCluster][kHeads / 2];  // (max, sum) of two heads, by rank
    float2 weights[kCluster][kHeads / 2];     // how much each rank's columns count
    float2 lse[kHeads / 2];                   // base 2, of the cluster
    int max[kBlocks][kHeads];                 // ordered as integers: see OrderedBits
    float sum[kBlocks][4][kHeads];            // by warp
    uint64_t loaded[kBlocks][kParts];
    uint64_t all_received;
    uint64_t all_statistics;
    uint32_t last;
  };
};

// Floats as integers of the same order, for atomicMax.
__device__ __forceinline__ int OrderedBits(float x) {
  const int bits = __float_as_int(x);
  return bits >= 0 ? bits : bits ^ 0x7fffffff;
}
__device__ __forceinline__ float FromOrderedBits(int bits) {
  return __int_as_float(bits >= 0 ? bits : bits ^ 0x7fffffff);
}

// Over the eight lanes that hold the same heads.
template <int kCount, typename Combine>
__device__ __forceinline__ void ReduceTokens(float (&v)[kCount], const Combine& combine) {
#pragma unroll
  for (int step = 4; step <= 16; step *= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = combine(v[i], __shfl_xor_sync(~0u, v[i], step));
  }
}

// A thread's view of its CTA. The kernel's body is one object of three layers, so that its steps
// share what a thread knows without long argument lists. Everything is inlined.
template <int kHeads, int kCluster, int kBlocks>
class LatencyState {
 protected:
  using L = Latency<kHeads, kCluster, kBlocks>;
  using Shared = typename L::Shared;
  static constexpr int kAccumulators = kHeads / 2;  // of a 64 x kHeads tile
  static constexpr int kOwnHeads = kHeads / 4;      // that a thread holds values of

  // Named barriers.
  enum : uint32_t { kMaxOf = 1, kReady = 3, kSumsReady = 5, kMerge = 6 };

 public:
  __device__ __forceinline__ LatencyState(const CUtensorMap& boxes, const LatencyWork& work,
                                          uint32_t splits, Shared& shared)
      : boxes_(boxes),
        work_(work),
        splits_(splits),
        shared_(shared),
        rank_(ptx::ClusterRank()),
        cluster_(blockIdx.x / kCluster),
        split_(cluster_ % splits),
        tile_(cluster_ / splits % work.head_tiles),
        query_(work.query[cluster_ / splits / work.head_tiles]),
        group_(threadIdx.x / 128),
        warp_(threadIdx.x / 32 % 4),
        lane_(threadIdx.x % 32) {
    const uint32_t blocks = (query_.visible_tokens + kPageTokens - 1) / kPageTokens;
    const uint32_t ctas = splits * kCluster;
    const uint32_t cta = split_ * kCluster + rank_;
    first_block_ = blocks * cta / ctas;
    blocks_ = blocks * (cta + 1) / ctas - first_block_;
  }

 protected:
  // Tokens of block b of this CTA that are seen; 0: there is no such block.
  __device__ __forceinline__ uint32_t Tokens(uint32_t b) const {
    if (b >= blocks_) return 0;
    return min(kPageTokens, query_.visible_tokens - (first_block_ + b) * kPageTokens);
  }
  __device__ __forceinline__ uint32_t Bar(const uint64_t& bar) const {
    return ptx::SharedAddress(&bar);
  }

  // Head of the tile that a thread's value i belongs to.
  __device__ __forceinline__ uint32_t Head(int i) const {
    return 8 * (i / 2) + lane_ % 4 * 2 + i % 2;
  }

  const CUtensorMap& boxes_;
  const LatencyWork& work_;
  const uint32_t splits_;
  Shared& shared_;
  const uint32_t rank_;
  const uint32_t cluster_;
  const uint32_t split_;
  const uint32_t tile_;
  const LatencyQuery& query_;
  const uint32_t group_;
  const uint32_t warp_;
  const uint32_t lane_;
  uint32_t first_block_;
  uint32_t blocks_;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_LATENCY_CTA_CUH_
