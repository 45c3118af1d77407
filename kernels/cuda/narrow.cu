// Up to 16 rows over a run of blocks of fp8 records: few rows a chunk, long contexts, bound by
// memory. A tile of 64 rows would waste three quarters of the tensor cores and of the room that
// rows take; here rows are the N of both products, as in the latency form:
//
//   S[tokens][rows]   = K[tokens][576] * Q[rows][576]^T
//   O[columns][rows]  = V[tokens][512]^T * P[rows][tokens]^T
//
// Both products take e4m3 values as they are, as f16: exact, and one instruction for two of them,
// where scaling them to bf16 takes six and is the bound. Scales go where there is less to multiply:
// S is summed over each scale's 128 columns apart, and P is multiplied by each token's scale, once
// for each of the four. Rows are scaled to f16 by powers of two (the rope columns stay bf16), and
// so is P: 2^shift, so that the largest scale seen so far becomes about 2^6.
//
// One step of the way for each warpgroup, each a block behind the one before:
//
//   a thread         16 records at a time as they are (contiguous bytes)     -> raw[5]
//   two warpgroups   e4m3 to f16 boxes                                       -> tile[2], scales[2]
//   a warpgroup      S, the rows' maxima so far, P                           -> p, factor[2]
//   a warpgroup      O = O factor + V P; then the block's tile and P are free
//
// Files: narrow_cta.cuh (shared memory), _load (records and rows in), _scores (S and P); this one
// the output, the kernel and its launch.
#include "kernels/cuda/narrow.h"

#include <cmath>

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/narrow_cta.cuh"
#include "kernels/cuda/narrow_load.cuh"
#include "kernels/cuda/narrow_scores.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/cuda/work.h"

namespace latentd {
namespace narrow {
namespace {

// Neighbouring lanes (four apart) hold neighbouring columns of two rows: each takes one row's pair
// of columns.
__device__ __forceinline__ void StoreAnswer(const Work& work, const WorkItem& item, uint32_t warp,
                                            uint32_t lane, const float (&lse)[kOwnRows],
                                            const float (&o)[kLatentBoxes][kAccumulators]) {
  const bool second = (lane & 4) != 0;
  const bool final = item.first_slot == kFinal;
#pragma unroll
  for (int j = 0; j < kOwnRows / 2; ++j) {
    const uint32_t row = 8 * j + lane % 4 * 2 + second;
    const bool real = row < item.tile.rows;
    const WorkRow target = work.rows[item.tile.first_row + (real ? row : 0)];
    bool good = true;
#pragma unroll
    for (int t = 0; t < static_cast<int>(kLatentBoxes); ++t) {
      const float* v = &o[t][4 * j];
      const float x = __shfl_xor_sync(~0u, second ? v[0] : v[1], 4);
      const float z = __shfl_xor_sync(~0u, second ? v[2] : v[3], 4);
      const float2 low = second ? make_float2(x, v[1]) : make_float2(v[0], x);
      const float2 high = second ? make_float2(z, v[3]) : make_float2(v[2], z);
      const uint32_t column = t * 64 + warp * 16 + (lane / 4 & ~1u);
      if (!real) continue;
      if (final) {
        good &= StoreOut2(target, column, low.x, low.y);
        good &= StoreOut2(target, column + 8, high.x, high.y);
      } else {
        float* out = work.partial_out + uint64_t{item.first_slot + row} * kLatentWidth + column;
        *reinterpret_cast<float2*>(out) = low;
        *reinterpret_cast<float2*>(out + 8) = high;
      }
    }
    if (!real) continue;
    if (warp == 0 && lane / 4 <= 1) {
      const float value = second ? lse[2 * j + 1] : lse[2 * j];
      if (final) {
        good &= StoreLse(target, value);
      } else {
        work.partial_lse[item.first_slot + row] = value;
      }
    }
    if (!good) ReportBadRow(work, target);
  }
}

__device__ __forceinline__ void MultiplyValues(uint32_t v, uint32_t p,
                                               float (&o)[kLatentBoxes][kAccumulators]) {
  WgmmaFence();
#pragma unroll
  for (uint32_t t = 0; t < kLatentBoxes; ++t) {
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) {
      WgmmaF16<1>(o[t], MatrixDescriptor(v + t * kBoxBytes + k * 2048, 1024, kBoxBytes),
                  MatrixDescriptor(p + t / 2 * kRowBoxBytes + k * 32), true);
    }
  }
  WgmmaCommit();
  WgmmaWait<0>();
}

__device__ __forceinline__ void ScaleOutput(const float (&factor)[kOwnRows],
                                            float (&o)[kLatentBoxes][kAccumulators]) {
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
#pragma unroll
    for (auto& box : o) {
      box[4 * (i / 2) + i % 2] *= factor[i];
      box[4 * (i / 2) + 2 + i % 2] *= factor[i];
    }
  }
}

__device__ __forceinline__ void Value(const Work& work, const WorkItem& item, Shared& shared,
                                      uint32_t thread) {
  const uint32_t lane = thread % 32;
  const uint32_t blocks = item.end_block - item.first_block;
  float o[kLatentBoxes][kAccumulators];
#pragma unroll
  for (auto& box : o) {
#pragma unroll
    for (float& v : box) v = 0;
  }
  float factor[kOwnRows];
  for (uint32_t b = 0; b < blocks; ++b) {
    MbarrierWait(SharedAddress(&shared.p_ready[b % 2]), b / 2 & 1);
    if (shared.moves[b % 2] != 0) {
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i) factor[i] = shared.factor[b % 2][RowOf(lane, i)];
      ScaleOutput(factor, o);
    }
    MultiplyValues(SharedAddress(shared.tile[b % 2]), SharedAddress(shared.p[0]), o);
    WarpArrive(shared.tile_free[b % 2], lane);
  }
  BarSync(kMath, kMathThreads);
  float lse[kOwnRows];
  const float unit = Exp2(-static_cast<float>(shared.final_shift));
#pragma unroll
  for (int i = 0; i < kOwnRows; ++i) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < 4; ++w) sum += shared.sum[w][RowOf(lane, i)];
    factor[i] = sum == 0 ? 0.0f : unit / sum;
    lse[i] = sum == 0 ? -INFINITY : shared.final_base[RowOf(lane, i)] + Log2(sum);
  }
  ScaleOutput(factor, o);
  StoreAnswer(work, item, thread / 32, lane, lse, o);
}

// --- The kernel ---

__device__ __forceinline__ void InitBarriers(Shared& shared) {
  for (uint32_t i = 0; i < kSlots; ++i) {
    MbarrierInit(SharedAddress(&shared.raw_ready[i]), 1);
    MbarrierInit(SharedAddress(&shared.raw_free[i]), kConvertWarps);
  }
  for (uint32_t i = 0; i < kTiles; ++i) {
    MbarrierInit(SharedAddress(&shared.tile_ready[i]), kConvertWarps);
    MbarrierInit(SharedAddress(&shared.tile_free[i]), kValueThreads / 32);
    MbarrierInit(SharedAddress(&shared.p_ready[i]), kScoreThreads / 32);
  }
  FenceMbarrierInit();
  FenceProxyAsync();
}

__global__ void __launch_bounds__(kThreads, 1)
    NarrowKernel(const __grid_constant__ Arena arena, const Work work) {
  extern __shared__ std::byte raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  const WorkItem item = work.items[blockIdx.x];
  if (threadIdx.x == kMathThreads) InitBarriers(shared);
  __syncthreads();
  // Whoever merges partials may get ready meanwhile.
  GridLaunchDependents();
  if (threadIdx.x < kMathThreads) {
    LoadQueries(work, item, shared, threadIdx.x);
    BarSync(kMath, kMathThreads);
    if (threadIdx.x < kScoreThreads) {
      Score(work, item, shared, threadIdx.x);
    } else {
      Value(work, item, shared, threadIdx.x - kScoreThreads);
    }
  } else if (threadIdx.x < kMathThreads + kConvertThreads) {
    ConvertAll(work, item, shared, threadIdx.x - kMathThreads);
  } else if (threadIdx.x == kMathThreads + kConvertThreads) {
    Load(arena, work, item, shared);
  }
}

}  // namespace
}  // namespace narrow

cudaError_t PrepareNarrowKernel() {
  using namespace narrow;  // NOLINT
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(NarrowKernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared));
}

cudaError_t LaunchNarrow(const Arena& arena, const Work& work, uint32_t items,
                         cudaStream_t stream) {
  using namespace narrow;  // NOLINT
  if (items == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(items);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = sizeof(Shared);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, NarrowKernel, arena, work);
}

}  // namespace latentd
