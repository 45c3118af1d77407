// One CTA for each row that several items computed: weighs their partials, fp32 throughout.
#include <cmath>

#include "kernels/cuda/combine.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"

namespace latentd {
namespace {

constexpr int kThreads = 128;
// Pieces whose log-sum-exps and values are on their way together.
constexpr int kAtOnce = 16;

// kWide neighbouring columns of a row.
template <int kWide>
struct alignas(4 * kWide) Values {
  float v[kWide];
};

// Merges this thread's columns from `column` on; every thread of the row finds the same `lse`.
template <int kWide>
__device__ __forceinline__ Values<kWide> CombineColumns(const Work& work, const WorkMerge& merge,
                                                        uint32_t latent_width, uint32_t column,
                                                        float& lse) {
  Values<kWide> out = {};
  float max = -INFINITY;
  float sum = 0;
  for (uint32_t first = 0; first < merge.pieces; first += kAtOnce) {
    float piece_lse[kAtOnce];
    Values<kWide> piece[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      piece_lse[i] = -INFINITY;
      piece[i] = {};
      if (first + i >= merge.pieces) continue;
      const uint32_t slot = work.pieces[merge.first_piece + first + i];
      piece_lse[i] = work.partial_lse[slot];
      if (column < latent_width) {
        piece[i] = *reinterpret_cast<const Values<kWide>*>(work.partial_out +
                                                           uint64_t{slot} * latent_width + column);
      }
    }
    float new_max = max;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) new_max = fmaxf(new_max, piece_lse[i]);
    const float safe = SafeMax(new_max);
    const float before = ptx::Exp2(max - safe);
    max = new_max;
    sum *= before;
#pragma unroll
    for (float& v : out.v) v *= before;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      // A NaN makes everything one.
      const float weight = ptx::Exp2(piece_lse[i] - safe);
      sum += weight;
#pragma unroll
      for (int c = 0; c < kWide; ++c) out.v[c] = fmaf(weight, piece[i].v[c], out.v[c]);
    }
  }
  const float inverse = sum == 0 ? 0.0f : 1.0f / sum;
#pragma unroll
  for (float& v : out.v) v *= inverse;
  lse = sum == 0 ? -INFINITY : max + ptx::Log2(sum);
  return out;
}

template <int kWide>
__global__ void __launch_bounds__(kThreads) CombineKernel(const Work work, uint32_t latent_width) {
  const WorkMerge merge = work.merges[blockIdx.x];
  const WorkRow row = work.rows[merge.row];
  // Launched while the partials are still being made.
  ptx::GridDependencyWait();
  bool good = true;
  float lse = -INFINITY;
  for (uint32_t first = 0; first < latent_width; first += kThreads * kWide) {
    const uint32_t column = first + threadIdx.x * kWide;
    const Values<kWide> out = CombineColumns<kWide>(work, merge, latent_width, column, lse);
    if (column >= latent_width) continue;
#pragma unroll
    for (float v : out.v) good &= fabsf(v) < INFINITY;
    if constexpr (kWide == 4) {
      StoreOut2(row, column, out.v[0], out.v[1]);
      StoreOut2(row, column + 2, out.v[2], out.v[3]);
    } else if (row.out_format == OutFormat::kBf16) {
      static_cast<Bf16*>(row.out)[column].bits =
          static_cast<uint16_t>(ptx::PackBf16(out.v[0], 0.0f) & 0xffff);
    } else {
      static_cast<float*>(row.out)[column] = out.v[0];
    }
  }
  if (threadIdx.x == 0) {
    if (merge.pieces == 0) {
      *row.lse = -INFINITY;
    } else {
      good &= StoreLse(row, lse);
    }
  }
  if (!good) ReportBadRow(work, row);
}

}  // namespace

cudaError_t LaunchCombine(const Work& work, uint32_t merges, uint32_t latent_width,
                          cudaStream_t stream) {
  if (merges == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(merges);
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  // 512 values are one round of 128 threads.
  return latent_width % 4 == 0 ? cudaLaunchKernelEx(&config, CombineKernel<4>, work, latent_width)
                               : cudaLaunchKernelEx(&config, CombineKernel<1>, work, latent_width);
}

}  // namespace latentd
