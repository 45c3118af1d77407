// Small pieces that all attention kernels share: what a row sees, and writing its answer.
#ifndef LATENTD_KERNELS_CUDA_ROW_OUTPUT_CUH_
#define LATENTD_KERNELS_CUDA_ROW_OUTPUT_CUH_

#include <cmath>
#include <cstdint>

#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/work.h"

namespace latentd {

inline constexpr float kLn2 = 0.693147180559945f;

__device__ __forceinline__ uint32_t VisibleInSpan(const WorkSpan& span, uint32_t hidden_tokens) {
  const uint32_t cut = hidden_tokens > span.tokens_after ? hidden_tokens - span.tokens_after : 0;
  return span.visible_tokens > cut ? span.visible_tokens - cut : 0;
}

// The number to subtract in exp2(x - max): a row that has seen nothing yet has max = -inf.
__device__ __forceinline__ float SafeMax(float max) { return max == -INFINITY ? 0.0f : max; }

__device__ __forceinline__ void ReportBadRow(const Work& work, const WorkRow& row) {
  atomicMin(&work.bad_rows[row.problem], row.row);
}

// Eight neighbouring values of a final row. False if one of them is not finite.
__device__ __forceinline__ bool StoreOut8(void* row_out, OutFormat format, uint32_t column,
                                          const float (&v)[8]) {
  float finite = 0;
#pragma unroll
  for (float value : v) finite = fmaf(value, 0.0f, finite);
  if (format == OutFormat::kBf16) {
    auto* out = reinterpret_cast<uint4*>(static_cast<Bf16*>(row_out) + column);
    *out = make_uint4(ptx::PackBf16(v[0], v[1]), ptx::PackBf16(v[2], v[3]),
                      ptx::PackBf16(v[4], v[5]), ptx::PackBf16(v[6], v[7]));
  } else {
    auto* out = reinterpret_cast<float4*>(static_cast<float*>(row_out) + column);
    out[0] = make_float4(v[0], v[1], v[2], v[3]);
    out[1] = make_float4(v[4], v[5], v[6], v[7]);
  }
  return finite == 0;
}

// Two neighbouring values.
__device__ __forceinline__ bool StoreOut2(const WorkRow& row, uint32_t column, float a, float b) {
  if (row.out_format == OutFormat::kBf16) {
    *reinterpret_cast<uint32_t*>(static_cast<Bf16*>(row.out) + column) = ptx::PackBf16(a, b);
  } else {
    *reinterpret_cast<float2*>(static_cast<float*>(row.out) + column) = make_float2(a, b);
  }
  return fabsf(a * 0.0f) + fabsf(b * 0.0f) == 0;
}

// Of a row that sees something: only one that sees nothing, which no tile holds, may be -inf.
__device__ __forceinline__ bool StoreLse(const WorkRow& row, float lse_log2) {
  *row.lse = lse_log2 * kLn2;
  return fabsf(lse_log2) < INFINITY;
}

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_ROW_OUTPUT_CUH_
