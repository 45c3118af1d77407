// The latency form's second half: from what the CTAs of a cluster sent each other to answers. See
// latency.cuh.
#ifndef LATENTD_KERNELS_CUDA_LATENCY_ANSWER_CUH_
#define LATENTD_KERNELS_CUDA_LATENCY_ANSWER_CUH_

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/latency_cta.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/work.h"

namespace latentd {

__device__ __forceinline__ void ReportBadHead(const LatencyWork& work, const LatencyQuery& query,
                                              uint32_t head) {
  work.bad_rows[query.row.problem] = query.row.row + head;
}

template <int kHeads, int kCluster, int kBlocks>
class LatencyAnswer : protected LatencyState<kHeads, kCluster, kBlocks> {
 protected:
  using State = LatencyState<kHeads, kCluster, kBlocks>;
  using State::Bar;
  using State::cluster_;
  using State::kMerge;
  using State::query_;
  using State::rank_;
  using State::shared_;
  using State::split_;
  using State::splits_;
  using State::tile_;
  using State::work_;
  using typename State::L;
  using typename State::Shared;

  using State::State;

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
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_LATENCY_ANSWER_CUH_
