// The throughput form's way out: a CTA's own answer, and a cluster's sum.
#ifndef LATENTD_KERNELS_CUDA_THROUGHPUT_ANSWER_CUH_
#define LATENTD_KERNELS_CUDA_THROUGHPUT_ANSWER_CUH_

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/throughput_blocks.cuh"
#include "kernels/cuda/throughput_cta.cuh"
#include "kernels/cuda/work.h"

namespace latentd::throughput {

using namespace ptx;  // NOLINT: one wrapper per instruction, all of them used here

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
    lse[r] = sum == 0 ? -INFINITY : rows.base[r] + Log2(sum);
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
      const WorkRow target = work.rows[mine.item.tile.first_row + row];
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

// --- A cluster's sum ---
//
// After the last block the stages hold the CTA's columns, bf16 (half the traffic for 0.3e-3 of
// error) and relative to its own bases, in the order of the registers: for each *class*, which is
// 32 columns of one of a thread's two rows, 16 bytes of every thread of a warpgroup. Each CTA reads
// an equal share of the classes from all of them: whole lines, and one row a thread.
inline constexpr uint32_t kClasses = 2 * kLatentWidth / 32;
inline constexpr uint32_t kClassBytes = 128 * 16;
static_assert(kClasses * kClassBytes <= kStages * kBlockBytes);

template <int kGroup>
__device__ __forceinline__ void OfferAnswer(Shared& shared, uint32_t thread, Rows& rows,
                                            const float (&o)[128]) {
  auto* to = reinterpret_cast<uint4*>(shared.stage[0]) + kGroup * kClasses / 2 * 128 + thread;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float* v = o + 16 * j + 2 * r;
      to[(2 * j + r) * 128] = make_uint4(PackBf16(v[0], v[1]), PackBf16(v[4], v[5]),
                                         PackBf16(v[8], v[9]), PackBf16(v[12], v[13]));
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.sum[r] += __shfl_xor_sync(~0u, rows.sum[r], 1);
    rows.sum[r] += __shfl_xor_sync(~0u, rows.sum[r], 2);
    if (thread % 4 != 0) continue;
    float4& to_statistics = shared.statistics[thread / 32 * 16 + thread % 32 / 4 + 8 * r];
    if (kGroup == 0) {
      to_statistics.x = rows.base[r];
      to_statistics.y = rows.sum[r];
    } else {
      to_statistics.z = rows.sum[r];
    }
  }
}

// A thread's share of the sum: one row, 32 columns of it (in four pairs) at a time.
class Collector {
 public:
  // `thread` of all math threads.
  __device__ __forceinline__ Collector(Shared& shared, uint32_t cluster_size, uint32_t rank,
                                       uint32_t thread)
      : cluster_size_(cluster_size),
        first_((kClasses * rank + cluster_size - 1) / cluster_size + thread / 128),
        end_((kClasses * (rank + 1) + cluster_size - 1) / cluster_size),
        thread_(thread % 128),
        row_(thread_ / 32 * 16 + thread_ % 32 / 4 + 8 * (first_ % 2)),
        classes_(SharedAddress(shared.stage[0]) + thread_ * 16),
        statistics_(SharedAddress(&shared.statistics[row_])) {}

  __device__ __forceinline__ uint32_t row() const { return row_; }

  // Finds how much each CTA's columns count, and the row's log-sum-exp. First of all the first
  // columns start on their way.
  __device__ __forceinline__ void Weigh() {
    Fetch(first_);
    float4 statistics[kMaxSplit];
    float base = -INFINITY;
#pragma unroll
    for (uint32_t c = 0; c < kMaxSplit; ++c) {
      if (c >= cluster_size_) continue;
      const uint4 v = LoadCluster16(MapToRank(statistics_, c));
      statistics[c] =
          make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), 0);
    }
#pragma unroll
    for (uint32_t c = 0; c < kMaxSplit; ++c) {
      if (c < cluster_size_) base = fmaxf(base, statistics[c].x);
    }
    float sum = 0;
#pragma unroll
    for (uint32_t c = 0; c < kMaxSplit; ++c) {
      weight_[c] = 0;
      if (c >= cluster_size_) continue;
      // A NaN makes everything one.
      weight_[c] = Exp2(statistics[c].x - SafeMax(base));
      sum = fmaf(weight_[c], statistics[c].y + statistics[c].z, sum);
    }
    const float inverse = sum == 0 ? 0.0f : __fdividef(1.0f, sum);
#pragma unroll
    for (float& weight : weight_) weight *= inverse;
    lse_ = sum == 0 ? -INFINITY : base + Log2(sum);
  }
  __device__ __forceinline__ float lse() const { return lse_; }

  // Calls store(column, eight values: pairs at column, column + 8, + 16, + 24).
  template <typename Store>
  __device__ __forceinline__ void Sum(const Store& store) {
#pragma unroll 1
    for (uint32_t which = first_; which < end_; which += 2) {
      float sum[8] = {};
#pragma unroll
      for (uint32_t c = 0; c < kMaxSplit; ++c) {
        if (c >= cluster_size_) continue;
        const uint32_t pairs[4] = {v_[c].x, v_[c].y, v_[c].z, v_[c].w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[2 * i] = fmaf(weight_[c], LowBf16(pairs[i]), sum[2 * i]);
          sum[2 * i + 1] = fmaf(weight_[c], HighBf16(pairs[i]), sum[2 * i + 1]);
        }
      }
      if (which + 2 < end_) Fetch(which + 2);
      store(which / 2 * 32 + thread_ % 4 * 2, sum);
    }
  }

 private:
  __device__ __forceinline__ void Fetch(uint32_t which) {
#pragma unroll
    for (uint32_t c = 0; c < kMaxSplit; ++c) {
      if (c < cluster_size_) v_[c] = LoadCluster16(MapToRank(classes_ + which * kClassBytes, c));
    }
  }

  const uint32_t cluster_size_;
  const uint32_t first_;  // class
  const uint32_t end_;
  const uint32_t thread_;
  const uint32_t row_;
  const uint32_t classes_;
  const uint32_t statistics_;
  uint4 v_[kMaxSplit];
  float weight_[kMaxSplit];
  float lse_;
};

// Sums this CTA's share over the cluster and stores it. REQUIRES: everybody has offered.
__device__ __forceinline__ void CollectAnswers(const Work& work, Collector& collector,
                                               const Assignment& mine, const WorkRow& target,
                                               bool stores_lse) {
  collector.Weigh();
  const bool real = collector.row() < mine.item.tile.rows;
  const bool final = mine.item.first_slot == kFinal;
  const uint32_t slot = mine.item.first_slot + collector.row();
  bool good = true;
  if (real && stores_lse) {
    if (final) {
      good = StoreLse(target, collector.lse());
    } else {
      work.partial_lse[slot] = collector.lse();
    }
  }
  collector.Sum([&](uint32_t column, const float(&sum)[8]) {
    if (!real) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (final) {
        good &= StoreOut2(target, column + 8 * i, sum[2 * i], sum[2 * i + 1]);
      } else {
        float* out = work.partial_out + uint64_t{slot} * kLatentWidth + column + 8 * i;
        *reinterpret_cast<float2*>(out) = make_float2(sum[2 * i], sum[2 * i + 1]);
      }
    }
  });
  if (!good) ReportBadRow(work, target);
}

}  // namespace latentd::throughput

#endif  // LATENTD_KERNELS_CUDA_THROUGHPUT_ANSWER_CUH_
