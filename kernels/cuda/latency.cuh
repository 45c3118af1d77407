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
//
// Files: latency_cta.cuh (shared memory and state), latency_answer.cuh (5 and 6), this one the rest.
#ifndef LATENTD_KERNELS_CUDA_LATENCY_CUH_
#define LATENTD_KERNELS_CUDA_LATENCY_CUH_

#include <cmath>
#include <cstdint>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/latency_answer.cuh"
#include "kernels/cuda/latency_cta.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/cuda/work.h"

namespace latentd {

template <int kHeads, int kCluster, int kBlocks>
class LatencyCta : LatencyAnswer<kHeads, kCluster, kBlocks> {
  using Answer = LatencyAnswer<kHeads, kCluster, kBlocks>;
  using Answer::Bar;
  using Answer::blocks_;
  using Answer::boxes_;
  using Answer::Finish;
  using Answer::first_block_;
  using Answer::group_;
  using Answer::Head;
  using Answer::kAccumulators;
  using Answer::kMaxOf;
  using Answer::kMerge;
  using Answer::kOwnHeads;
  using Answer::kReady;
  using Answer::kSumsReady;
  using Answer::lane_;
  using Answer::query_;
  using Answer::rank_;
  using Answer::shared_;
  using Answer::tile_;
  using Answer::Tokens;
  using Answer::warp_;
  using Answer::work_;
  using typename Answer::L;
  using typename Answer::Shared;

 public:
  using Answer::Answer;

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

  // 64 columns of this warpgroup's half over block b.
  __device__ __forceinline__ void MultiplyValues(uint32_t b, int t, bool accumulate,
                                                 float (&o)[kAccumulators]) {
    const uint32_t v = ptx::SharedAddress(shared_.block[b]) + (group_ * 4 + t) * kBoxBytes;
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
    const uint32_t column = (group_ * 4 + t) * 64 + warp_ * 16;
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
