// One CTA for each row that several items computed: weighs their partials, fp32 throughout.
#include <cmath>

#include "kernels/cuda/combine.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"

namespace latentd {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) CombineKernel(const Work work, uint32_t latent_width) {
  // Launched while the partials are still being made.
  ptx::GridDependencyWait();
  const WorkMerge merge = work.merges[blockIdx.x];
  const WorkRow& row = work.rows[merge.row];
  const uint32_t* slots = work.pieces + merge.first_piece;

  float max = -INFINITY;
  bool nan = false;
  for (uint32_t p = 0; p < merge.pieces; ++p) {
    const float lse = work.partial_lse[slots[p]];
    max = fmaxf(max, lse);
    nan |= isnan(lse);
  }
  const float safe = SafeMax(max);
  float sum = 0;
  for (uint32_t p = 0; p < merge.pieces; ++p) {
    sum += ptx::Exp2(work.partial_lse[slots[p]] - safe);
  }
  const float inverse = sum == 0 ? 0.0f : 1.0f / sum;

  bool good = true;
  for (uint32_t column = threadIdx.x; column < latent_width; column += kThreads) {
    float out = 0;
    for (uint32_t p = 0; p < merge.pieces; ++p) {
      const float weight = ptx::Exp2(work.partial_lse[slots[p]] - safe) * inverse;
      const float value = work.partial_out[uint64_t{slots[p]} * latent_width + column];
      out = fmaf(weight, value, out);
    }
    good &= fabsf(out) < INFINITY;
    if (row.out_format == OutFormat::kBf16) {
      static_cast<Bf16*>(row.out)[column].bits =
          static_cast<uint16_t>(ptx::PackBf16(out, 0.0f) & 0xffff);
    } else {
      static_cast<float*>(row.out)[column] = out;
    }
  }
  if (threadIdx.x == 0) {
    if (merge.pieces == 0) {
      *row.lse = -INFINITY;
    } else {
      good &= StoreLse(row, nan ? NAN : sum == 0 ? -INFINITY : max + ptx::Log2(sum));
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
  return cudaLaunchKernelEx(&config, CombineKernel, work, latent_width);
}

}  // namespace latentd
