// One query token's heads over a short context, in one launch without a second kernel.
//
// Few rows and few tokens leave most of the machine idle unless the *tokens* are spread over it: a
// CTA takes kHeads heads and one or two blocks of 64 tokens, a cluster takes a context, and the
// CTAs' outputs are summed through distributed shared memory. The products are turned round, tokens
// or output columns as M and heads as N, so that 8 or 24 heads waste nothing:
//
//   S[tokens][heads]   = K[tokens][576] * Q[heads][576]^T      A: the block, B: the rows
//   O[columns][heads]  = V[tokens][512]^T * P[heads][tokens]^T A: the same block, transposed
//
// A CTA, two warpgroups of arithmetic and a warp that starts the copies:
//   1. copies of its blocks start, in three parts each; the rows go to shared memory by hand
//   2. warpgroup b computes S of block b, the heads' maxima over all blocks so far, and P
//   3. both compute half of the columns each over both blocks, rescaling between the blocks
//   4. (max, sum) of each head goes to every CTA of the cluster; the columns, unscaled bf16, 64 at
//   a
//      time, to the CTA that owns them, while the next 64 are being multiplied
//   5. each CTA weighs and sums what it received and stores its columns of all heads
//   6. with several clusters for one context: fp32 to global memory, and the last of them to arrive
//      merges all, in their order
// Senders write in the order of their registers and complete the receiver's mbarrier by bytes; a
// receiver that has all bytes may leave, so there is no barrier at the end.
#ifndef LATENTD_KERNELS_CUDA_LATENCY_CUH_
#define LATENTD_KERNELS_CUDA_LATENCY_CUH_

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/wgmma.cuh"
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

__device__ __forceinline__ void ReportBadHead(const LatencyWork& work, const LatencyQuery& query,
                                              uint32_t head) {
  work.bad_rows[query.row.problem] = query.row.row + head;
}

// The kernel's body as one object, so that its steps share what a thread knows without long
// argument lists. Everything is inlined.
template <int kHeads, int kCluster, int kBlocks>
class LatencyCta {
  using L = Latency<kHeads, kCluster, kBlocks>;
  using Shared = typename L::Shared;
  static constexpr int kAccumulators = kHeads / 2;  // of a 64 x kHeads tile
  static constexpr int kOwnHeads = kHeads / 4;      // that a thread holds values of

  // Named barriers.
  enum : uint32_t { kMaxOf = 1, kReady = 3, kSumsReady = 5, kMerge = 6 };

 public:
  __device__ __forceinline__ LatencyCta(const CUtensorMap& boxes, const LatencyWork& work,
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

  __device__ __forceinline__ void Run() {
    if (threadIdx.x < kLatencyMathThreads) {
      LoadQueries();
    } else if (threadIdx.x == kLatencyMathThreads) {
      StartCopies();
    }
    if (threadIdx.x < kBlocks * kHeads) shared_.max[0][threadIdx.x] = OrderedBits(-INFINITY);
    __syncthreads();
    ptx::ClusterArriveRelaxed();
    if (threadIdx.x < kLatencyMathThreads) {
      ptx::CopyAsyncWait();
      ptx::FenceProxyAsync();
      ptx::BarSync(kMerge, kLatencyMathThreads);
    }
    // Everybody's mbarriers are there before anybody writes to another's memory.
    ptx::ClusterWait();
    if (threadIdx.x >= kLatencyMathThreads) return;

    float o[4][kAccumulators];
    if constexpr (kBlocks == 1) {
      OneBlock(o);
    } else {
      TwoBlocks(o);
    }
    Finish();
  }

 private:
  // Tokens of block b of this CTA that are seen; 0: there is no such block.
  __device__ __forceinline__ uint32_t Tokens(uint32_t b) const {
    if (b >= blocks_) return 0;
    return min(kPageTokens, query_.visible_tokens - (first_block_ + b) * kPageTokens);
  }
  __device__ __forceinline__ uint32_t Bar(const uint64_t& bar) const {
    return ptx::SharedAddress(&bar);
  }

  // One thread.
  __device__ __forceinline__ void StartCopies() {
    uint32_t page[kBlocks];
#pragma unroll
    for (uint32_t b = 0; b < kBlocks; ++b) {
      page[b] = 0;
      if (b < blocks_) {
        page[b] = query_.page_table != nullptr
                      ? __ldg(query_.page_table + first_block_ + b)
                      : work_.page_ids[query_.first_page + first_block_ + b];
      }
    }
    ptx::PrefetchTensorMap(&boxes_);
#pragma unroll
    for (uint32_t b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (uint32_t part = 0; part < L::kParts; ++part) {
        ptx::MbarrierInit(Bar(shared_.loaded[b][part]), 1);
      }
    }
    ptx::MbarrierInit(Bar(shared_.all_received), 1);
    ptx::MbarrierInit(Bar(shared_.all_statistics), 1);
    ptx::FenceMbarrierInit();
    ptx::FenceProxyAsync();
#pragma unroll
    for (uint32_t b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (uint32_t part = 0; part < L::kParts; ++part) {
        if (b >= blocks_) continue;
        ptx::MbarrierExpect(Bar(shared_.loaded[b][part]), L::kPartBytes);
        ptx::LoadBoxes(ptx::SharedAddress(shared_.block[b]) + part * L::kPartBytes, &boxes_,
                       part * 3, query_.layer, page[b], Bar(shared_.loaded[b][part]));
      }
    }
    ptx::MbarrierExpect(Bar(shared_.all_received), kCluster * L::kSourceBytes);
    ptx::MbarrierExpect(Bar(shared_.all_statistics), kCluster * kHeads * 8);
  }

  // Starts copying the tile's rows. Heads beyond the query's are zeros.
  __device__ __forceinline__ void LoadQueries() {
    constexpr uint32_t kChunksPerRow = kRowBytes / 16;
    const auto* from = reinterpret_cast<const uint4*>(query_.row.query);
    const uint32_t heads = query_.heads - min(query_.heads, tile_ * kHeads);
    const uint32_t q = ptx::SharedAddress(shared_.q);
#pragma unroll
    for (uint32_t index = threadIdx.x; index < kHeads * kChunksPerRow;
         index += kLatencyMathThreads) {
      const uint32_t row = index / kChunksPerRow;
      const uint32_t chunk = index % kChunksPerRow;
      const bool real = row < heads;
      ptx::CopyAsync16(q + chunk / 8 * L::kRowBoxBytes + Swizzled(row, chunk % 8),
                       from + (real ? tile_ * kHeads * kChunksPerRow + index : 0), real);
    }
  }

  // S of block b, by one warpgroup, as the parts of the block arrive.
  __device__ __forceinline__ void MultiplyQueries(uint32_t b, float (&s)[kAccumulators]) {
    const uint32_t q = ptx::SharedAddress(shared_.q);
    const uint32_t k = ptx::SharedAddress(shared_.block[b]);
#pragma unroll
    for (uint32_t part = 0; part < L::kParts; ++part) {
      if (b < blocks_) ptx::MbarrierWait(Bar(shared_.loaded[b][part]), 0);
      ptx::WgmmaFence();
#pragma unroll
      for (uint32_t box = part * 3; box < part * 3 + 3; ++box) {
#pragma unroll
        for (uint32_t step = 0; step < 4; ++step) {
          ptx::Wgmma<0>(s, ptx::MatrixDescriptor(k + box * kBoxBytes + step * 32),
                        ptx::MatrixDescriptor(q + box * L::kRowBoxBytes + step * 32),
                        (box | step) != 0);
        }
      }
      ptx::WgmmaCommit();
    }
    ptx::WgmmaWait<0>();
  }

  // From S of block b to P in shared memory, relative to the maxima over blocks 0 to b, and each
  // thread's part of the sums. Tokens that nobody sees get P = 0 and V = 0.
  __device__ __forceinline__ void Softmax(uint32_t b, float (&s)[kAccumulators],
                                          float (&sum)[kOwnHeads]) {
    const uint32_t tokens = Tokens(b);
    const bool sees[2] = {warp_ * 16 + lane_ / 4 < tokens, warp_ * 16 + lane_ / 4 + 8 < tokens};
    if (tokens < kPageTokens) ZeroUnusedTokens<128>(shared_.block[b], tokens, threadIdx.x % 128);
    float max[kOwnHeads];
#pragma unroll
    for (int j = 0; j < kHeads / 8; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& a = s[4 * j + c];
        float& z = s[4 * j + 2 + c];
        a = sees[0] ? a * query_.row.scale_log2 : -INFINITY;
        z = sees[1] ? z * query_.row.scale_log2 : -INFINITY;
        max[2 * j + c] = fmaxf(a, z);
      }
    }
    ReduceTokens(max, [](float x, float y) { return fmaxf(x, y); });
    if (lane_ < 4) {
#pragma unroll
      for (int i = 0; i < kOwnHeads; ++i) atomicMax(&shared_.max[b][Head(i)], OrderedBits(max[i]));
    }
    ptx::BarSync(kMaxOf + b, 128);
    uint32_t packed[kOwnHeads];
#pragma unroll
    for (int j = 0; j < kHeads / 8; ++j) {
      float p[4];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float safe = SafeMax(MaxThrough(b, 2 * j + c));
        p[c] = ptx::Exp2(s[4 * j + c] - safe);
        p[2 + c] = ptx::Exp2(s[4 * j + 2 + c] - safe);
        sum[2 * j + c] = p[c] + p[2 + c];
      }
      packed[2 * j] = ptx::PackBf16(p[0], p[1]);
      packed[2 * j + 1] = ptx::PackBf16(p[2], p[3]);
    }
    StoreP(b, packed);
  }

  // Head of the tile that a thread's value i belongs to.
  __device__ __forceinline__ uint32_t Head(int i) const {
    return 8 * (i / 2) + lane_ % 4 * 2 + i % 2;
  }
  __device__ __forceinline__ float MaxThrough(uint32_t b, int i) const {
    float max = FromOrderedBits(shared_.max[0][Head(i)]);
    if (b == 1) max = fmaxf(max, FromOrderedBits(shared_.max[kBlocks - 1][Head(i)]));
    return max;
  }

  // P as heads x tokens, swizzled: S's fragments transposed.
  __device__ __forceinline__ void StoreP(uint32_t b, const uint32_t (&packed)[kOwnHeads]) {
    const uint32_t p = ptx::SharedAddress(shared_.p[b]);
    const uint32_t matrix = lane_ / 8;
    const uint32_t row = lane_ % 8;
    const uint32_t chunk = ((warp_ * 16 + matrix % 2 * 8) * 2) ^ (row << 4);
#pragma unroll
    for (int jj = 0; jj < kHeads / 16; ++jj) {
      ptx::StoreMatrix4Transposed(p + (16 * jj + matrix / 2 * 8 + row) * 128 + chunk,
                                  packed[4 * jj], packed[4 * jj + 1], packed[4 * jj + 2],
                                  packed[4 * jj + 3]);
    }
    if constexpr (kHeads % 16 != 0) {
      ptx::StoreMatrix2Transposed(p + (kHeads / 16 * 16 + row) * 128 + chunk, packed[kOwnHeads - 2],
                                  packed[kOwnHeads - 1]);
    }
    ptx::FenceProxyAsync();
  }

  __device__ __forceinline__ void StoreSums(uint32_t b, float (&sum)[kOwnHeads]) {
    ReduceTokens(sum, [](float x, float y) { return x + y; });
    if (lane_ < 4) {
#pragma unroll
      for (int i = 0; i < kOwnHeads; ++i) shared_.sum[b][warp_][Head(i)] = sum[i];
    }
  }

  // The columns of a thread's o[t]. CTAs begin at different ones: else all would send to the same
  // few receivers at the same time.
  __device__ __forceinline__ uint32_t Box(int t) const { return group_ * 4 + ((t + rank_) & 3); }

  // 64 columns of this warpgroup's half over block b.
  __device__ __forceinline__ void MultiplyValues(uint32_t b, int t, bool accumulate,
                                                 float (&o)[kAccumulators]) {
    const uint32_t v = ptx::SharedAddress(shared_.block[b]) + Box(t) * kBoxBytes;
    const uint32_t p = ptx::SharedAddress(shared_.p[b]);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      ptx::Wgmma<1>(o, ptx::MatrixDescriptor(v + k * 2048, 1024, kBoxBytes),
                    ptx::MatrixDescriptor(p + k * 32), accumulate || k != 0);
    }
    ptx::WgmmaCommit();
  }

  __device__ __forceinline__ void OneBlock(float (&o)[4][kAccumulators]) {
    if (group_ == 0) {
      float s[kAccumulators];
      float sum[kOwnHeads];
      MultiplyQueries(0, s);
      Softmax(0, s, sum);
      ptx::BarSync(kReady, kLatencyMathThreads);
      ptx::WgmmaFence();
      MultiplyValues(0, 0, false, o[0]);
      StoreSums(0, sum);
      MultiplyValues(0, 1, false, o[1]);
      Send(0, false, o);
    } else {
      ptx::BarSync(kReady, kLatencyMathThreads);
      ptx::WgmmaFence();
      MultiplyValues(0, 0, false, o[0]);
      MultiplyValues(0, 1, false, o[1]);
      Send(0, false, o);
    }
  }

  __device__ __forceinline__ void TwoBlocks(float (&o)[4][kAccumulators]) {
    float s[kAccumulators];
    float sum[kOwnHeads];
    if (group_ == 0) {
      MultiplyQueries(0, s);
      Softmax(0, s, sum);
      ptx::BarSync(kReady, kLatencyMathThreads);
      ptx::WgmmaFence();
#pragma unroll
      for (int t = 0; t < 4; ++t) MultiplyValues(0, t, false, o[t]);
      StoreSums(0, sum);
      ptx::WgmmaWait<0>();
      ptx::BarSync(kReady + 1, kLatencyMathThreads);
      Rescale(o);
      ptx::WgmmaFence();
      MultiplyValues(1, 0, true, o[0]);
      MultiplyValues(1, 1, true, o[1]);
      Send(1, true, o);
    } else {
      ptx::BarSync(kReady, kLatencyMathThreads);
      ptx::WgmmaFence();
#pragma unroll
      for (int t = 0; t < 4; ++t) MultiplyValues(0, t, false, o[t]);
      MultiplyQueries(1, s);
      Softmax(1, s, sum);
      ptx::BarSync(kReady + 1, kLatencyMathThreads);
      Rescale(o);
      ptx::WgmmaFence();
      MultiplyValues(1, 0, true, o[0]);
      StoreSums(1, sum);
      MultiplyValues(1, 1, true, o[1]);
      Send(1, true, o);
    }
  }

  // From the maxima of block 0 to those of both.
  __device__ __forceinline__ void Rescale(float (&o)[4][kAccumulators]) {
#pragma unroll
    for (int i = 0; i < kOwnHeads; ++i) {
      const float factor = ptx::Exp2(MaxThrough(0, i) - SafeMax(MaxThrough(1, i)));
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        o[t][4 * (i / 2) + i % 2] *= factor;
        o[t][4 * (i / 2) + 2 + i % 2] *= factor;
      }
    }
  }

  // REQUIRES: products 0 and 1 of block b, the last one, are on their way. Sends 64 columns while
  // the next are multiplied: work after the last wgmma was issued would not overlap with any.
  __device__ __forceinline__ void Send(uint32_t b, bool accumulate, float (&o)[4][kAccumulators]) {
    SendStatistics();
    ptx::WgmmaWait<1>();
    SendColumns(0, o[0]);
    ptx::WgmmaFence();
    MultiplyValues(b, 2, accumulate, o[2]);
    ptx::WgmmaWait<1>();
    SendColumns(1, o[1]);
    ptx::WgmmaFence();
    MultiplyValues(b, 3, accumulate, o[3]);
    ptx::WgmmaWait<1>();
    SendColumns(2, o[2]);
    ptx::WgmmaWait<0>();
    SendColumns(3, o[3]);
  }

  __device__ __forceinline__ void SendStatistics() {
    ptx::BarSync(kSumsReady, kLatencyMathThreads);
    constexpr uint32_t kAll = kCluster * kHeads / 2;
    const uint32_t bar = Bar(shared_.all_statistics);
#pragma unroll
    for (uint32_t first = 0; first < kAll; first += kLatencyMathThreads) {
      const uint32_t index = first + threadIdx.x;
      if (index >= kAll) continue;
      const uint32_t to = index / (kHeads / 2);
      const uint32_t pair = index % (kHeads / 2);
      float max[2];
      float sum[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const uint32_t head = 2 * pair + c;
        max[c] = FromOrderedBits(shared_.max[0][head]);
        sum[c] = 0;
#pragma unroll
        for (int w = 0; w < 4; ++w) sum[c] += shared_.sum[0][w][head];
        if constexpr (kBlocks == 2) {
          const float both = fmaxf(max[c], FromOrderedBits(shared_.max[1][head]));
          sum[c] *= ptx::Exp2(max[c] - SafeMax(both));
          max[c] = both;
#pragma unroll
          for (int w = 0; w < 4; ++w) sum[c] += shared_.sum[1][w][head];
        }
      }
      ptx::StoreAsync16(ptx::MapToRank(ptx::SharedAddress(&shared_.statistics[rank_][pair]), to),
                        __float_as_uint(max[0]), __float_as_uint(sum[0]), __float_as_uint(max[1]),
                        __float_as_uint(sum[1]), ptx::MapToRank(bar, to));
    }
  }

  __device__ __forceinline__ void SendColumns(int t, const float (&o)[kAccumulators]) {
    const uint32_t column = Box(t) * 64 + warp_ * 16;
    const uint32_t to = column / L::kOwnColumns;
    const uint32_t slab = column % L::kOwnColumns / 16;
    const uint32_t bar = ptx::MapToRank(Bar(shared_.all_received), to);
    const uint32_t address = ptx::MapToRank(
        ptx::SharedAddress(shared_.received) + rank_ * L::kSourceBytes + slab * L::kSlabBytes, to);
#pragma unroll
    for (int jj = 0; jj < kHeads / 16; ++jj) {
      ptx::StoreAsync16(address + jj * 512 + lane_ * 16, ptx::PackBf16(o[8 * jj], o[8 * jj + 1]),
                        ptx::PackBf16(o[8 * jj + 2], o[8 * jj + 3]),
                        ptx::PackBf16(o[8 * jj + 4], o[8 * jj + 5]),
                        ptx::PackBf16(o[8 * jj + 6], o[8 * jj + 7]), bar);
    }
    if constexpr (kHeads % 16 != 0) {
      constexpr int j = kHeads / 8 - 1;
      ptx::StoreAsync8(address + kHeads / 16 * 512 + lane_ * 8,
                       ptx::PackBf16(o[4 * j], o[4 * j + 1]),
                       ptx::PackBf16(o[4 * j + 2], o[4 * j + 3]), bar);
    }
  }

  // --- The receiver's side ---

  // A fragment: columns `column` and `column + 8` of heads `head` and `head + 1` of the tile.
  struct Fragment {
    uint32_t slab;
    uint32_t j;
    uint32_t lane;
    __device__ __forceinline__ explicit Fragment(uint32_t index)
        : slab(index / 32 / (kHeads / 8)), j(index / 32 % (kHeads / 8)), lane(index % 32) {}
    __device__ __forceinline__ uint32_t head() const { return 8 * j + lane % 4 * 2; }
    __device__ __forceinline__ uint32_t offset() const {
      const bool single = kHeads % 16 != 0 && j == kHeads / 8 - 1;
      return slab * L::kSlabBytes +
             (single ? kHeads / 16 * 512 + lane * 8 : j / 2 * 512 + lane * 16 + j % 2 * 8);
    }
  };

  // From what every CTA of the cluster found to the weights of their columns. A lane for each rank:
  // one thread for all ranks of a head takes three times as long, and everybody waits for it.
  __device__ __forceinline__ void Weigh() {
    constexpr uint32_t kAll = kCluster * kHeads / 2;
    static_assert(kAll % 32 == 0 && kAll <= kLatencyMathThreads);
    if (threadIdx.x < kAll) {
      const uint32_t rank = threadIdx.x % kCluster;
      const uint32_t pair = threadIdx.x / kCluster;
      const float4 x = shared_.statistics[rank][pair];
      const float own[2] = {x.x, x.z};
      const float sum[2] = {x.y, x.w};
      float weight[2];
      float lse[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float max = own[c];
#pragma unroll
        for (int step = 1; step < kCluster; step *= 2) {
          max = fmaxf(max, __shfl_xor_sync(~0u, max, step));
        }
        weight[c] = ptx::Exp2(own[c] - SafeMax(max));
        float total = weight[c] * sum[c];
#pragma unroll
        for (int step = 1; step < kCluster; step *= 2) {
          total += __shfl_xor_sync(~0u, total, step);
        }
        weight[c] *= total == 0 ? 0.0f : __fdividef(1.0f, total);
        lse[c] = total == 0 ? -INFINITY : max + ptx::Log2(total);
      }
      shared_.weights[rank][pair] = make_float2(weight[0], weight[1]);
      if (rank == 0) shared_.lse[pair] = make_float2(lse[0], lse[1]);
    }
    ptx::BarSync(kMerge, kLatencyMathThreads);
  }

  __device__ __forceinline__ float4* MeetingOut(uint32_t split) const {
    return work_.meeting_out +
           (uint64_t{cluster_ / splits_ * splits_ + split} * kCluster + rank_) * L::kFragments;
  }
  __device__ __forceinline__ float* MeetingLse(uint32_t split) const {
    return work_.meeting_lse +
           (uint64_t{cluster_ / splits_ * splits_ + split} * kCluster + rank_) * kHeads;
  }

  // From what the cluster sent to the answer, or to the meeting.
  __device__ __forceinline__ void Finish() {
    ptx::MbarrierWaitCluster(Bar(shared_.all_statistics), 0);
    Weigh();
    ptx::MbarrierWaitCluster(Bar(shared_.all_received), 0);
#pragma unroll 1
    for (uint32_t index = threadIdx.x; index < L::kFragments; index += kLatencyMathThreads) {
      const Fragment fragment(index);
      const uint32_t pair = fragment.head() / 2;
      const std::byte* received = shared_.received + fragment.offset();
      float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
      for (int r = 0; r < kCluster; ++r) {
        const uint2 v = *reinterpret_cast<const uint2*>(received + r * L::kSourceBytes);
        const float2 weight = shared_.weights[r][pair];
        sum.x = fmaf(weight.x, ptx::LowBf16(v.x), sum.x);
        sum.y = fmaf(weight.y, ptx::HighBf16(v.x), sum.y);
        sum.z = fmaf(weight.x, ptx::LowBf16(v.y), sum.z);
        sum.w = fmaf(weight.y, ptx::HighBf16(v.y), sum.w);
      }
      const float2 lse = shared_.lse[pair];
      if (splits_ == 1) {
        Store(fragment, sum, {lse.x, lse.y});
      } else {
        MeetingOut(split_)[index] = sum;
        if (fragment.slab == 0 && fragment.lane < 4) {
          *reinterpret_cast<float2*>(MeetingLse(split_) + fragment.head()) = lse;
        }
      }
    }
    if (splits_ > 1) Meet();
  }

  // The last cluster to arrive merges what all of them computed.
  __device__ __forceinline__ void Meet() {
    ptx::BarSync(kMerge, kLatencyMathThreads);
    if (threadIdx.x == 0) {
      uint32_t* arrivals = work_.meeting_arrivals + cluster_ / splits_ * kCluster + rank_;
      const bool last = ptx::AddAcquireRelease(arrivals, 1) == splits_ - 1;
      if (last) *arrivals = 0;
      shared_.last = last;
    }
    ptx::BarSync(kMerge, kLatencyMathThreads);
    if (!shared_.last) return;
#pragma unroll
    for (uint32_t first = 0; first < L::kFragments; first += kLatencyMathThreads) {
      const uint32_t index = first + threadIdx.x;
      if (L::kFragments % kLatencyMathThreads != 0 && index >= L::kFragments) continue;
      const Fragment fragment(index);
      MergeSplits(fragment, index);
    }
  }

  __device__ __forceinline__ void MergeSplits(const Fragment& fragment, uint32_t index) {
    constexpr int kAtOnce = 4;
    float max[2] = {-INFINITY, -INFINITY};
    float total[2] = {0, 0};
    float4 sum = make_float4(0, 0, 0, 0);
    for (uint32_t first = 0; first < splits_; first += kAtOnce) {
      float4 v[kAtOnce];
      float2 lse[kAtOnce];
#pragma unroll
      for (uint32_t i = 0; i < kAtOnce; ++i) {
        lse[i] = make_float2(-INFINITY, -INFINITY);
        v[i] = make_float4(0, 0, 0, 0);
        if (first + i >= splits_) continue;
        lse[i] = __ldcg(reinterpret_cast<const float2*>(MeetingLse(first + i) + fragment.head()));
        v[i] = __ldcg(MeetingOut(first + i) + index);
      }
      float before[2] = {max[0], max[1]};
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        max[0] = fmaxf(max[0], lse[i].x);
        max[1] = fmaxf(max[1], lse[i].y);
      }
      const float safe[2] = {SafeMax(max[0]), SafeMax(max[1])};
      const float factor[2] = {ptx::Exp2(before[0] - safe[0]), ptx::Exp2(before[1] - safe[1])};
      total[0] *= factor[0];
      total[1] *= factor[1];
      sum = make_float4(sum.x * factor[0], sum.y * factor[1], sum.z * factor[0], sum.w * factor[1]);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const float a = ptx::Exp2(lse[i].x - safe[0]);
        const float b = ptx::Exp2(lse[i].y - safe[1]);
        total[0] += a;
        total[1] += b;
        sum.x = fmaf(a, v[i].x, sum.x);
        sum.y = fmaf(b, v[i].y, sum.y);
        sum.z = fmaf(a, v[i].z, sum.z);
        sum.w = fmaf(b, v[i].w, sum.w);
      }
    }
    const float inverse[2] = {__fdividef(1.0f, total[0]), __fdividef(1.0f, total[1])};
    const float lse[2] = {max[0] + ptx::Log2(total[0]), max[1] + ptx::Log2(total[1])};
    Store(
        fragment,
        make_float4(sum.x * inverse[0], sum.y * inverse[1], sum.z * inverse[0], sum.w * inverse[1]),
        lse);
  }

  // Neighbouring lanes (four apart) hold neighbouring columns of two heads: each takes one head's
  // pair of columns.
  __device__ __forceinline__ void Store(const Fragment& fragment, const float4& v,
                                        const float (&lse)[2]) {
    const bool second = (fragment.lane & 4) != 0;
    const float x = __shfl_xor_sync(~0u, second ? v.x : v.y, 4);
    const float z = __shfl_xor_sync(~0u, second ? v.z : v.w, 4);
    const uint32_t head = tile_ * kHeads + fragment.head() + second;
    if (head >= query_.heads) return;
    const uint32_t column = rank_ * L::kOwnColumns + fragment.slab * 16 + (fragment.lane / 4 & ~1u);
    WorkRow row = query_.row;
    const uint32_t value_bytes = row.out_format == OutFormat::kBf16 ? 2 : 4;
    row.out = static_cast<std::byte*>(row.out) + uint64_t{head} * kLatentWidth * value_bytes;
    row.lse += head;
    bool good = second ? StoreOut2(row, column, x, v.y) && StoreOut2(row, column + 8, z, v.w)
                       : StoreOut2(row, column, v.x, x) && StoreOut2(row, column + 8, v.z, z);
    if (rank_ == 0 && fragment.slab == 0 && fragment.lane / 4 <= 1) {
      good = StoreLse(row, second ? lse[1] : lse[0]) && good;
    }
    if (!good) ReportBadHead(work_, query_, head);
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

template <int kHeads, int kCluster, int kBlocks>
__global__ void __launch_bounds__(kLatencyThreads, 1)
    LatencyKernel(const __grid_constant__ CUtensorMap boxes,
                  const __grid_constant__ LatencyWork work, uint32_t splits) {
  extern __shared__ std::byte raw[];
  auto& shared = *reinterpret_cast<typename Latency<kHeads, kCluster, kBlocks>::Shared*>(raw);
  LatencyCta<kHeads, kCluster, kBlocks>(boxes, work, splits, shared).Run();
}

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_LATENCY_CUH_
