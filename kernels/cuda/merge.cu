// One CTA for each row: finds the runs that have its token, and weighs them, fp32 throughout.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/merge.h"
#include "kernels/cuda/ptx.cuh"

namespace latentd {
namespace {

constexpr int kThreads = 128;
// Runs that travel as the launch's parameters, of which there are at most 4 KiB.
constexpr uint32_t kFewRuns = 64;

struct Runs {
  uint32_t count;
  const MergeRun* more;  // those beyond kFewRuns
  MergeRun few[kFewRuns];

  __device__ const MergeRun& operator[](uint32_t i) const {
    return i < kFewRuns ? few[i] : more[i - kFewRuns];
  }
};

// A row among those of a run; -1 where the run does not have it.
__device__ int64_t RowIn(const MergeRun& run, uint32_t token, uint32_t head, uint32_t heads) {
  if (token < run.first_token || token - run.first_token >= run.tokens) return -1;
  return int64_t{token - run.first_token} * heads + head;
}

template <OutFormat kFormat>
__device__ float2 LoadPair(const void* out, uint64_t index) {
  if constexpr (kFormat == OutFormat::kFp32) {
    return *reinterpret_cast<const float2*>(static_cast<const float*>(out) + index);
  } else {
    const uint32_t pair =
        *reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(out) + index);
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
  }
}

template <OutFormat kFormat>
__device__ void StorePair(void* out, uint64_t index, float2 values) {
  if constexpr (kFormat == OutFormat::kFp32) {
    *reinterpret_cast<float2*>(static_cast<float*>(out) + index) = values;
  } else {
    *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(out) + index) =
        ptx::PackBf16(values.x, values.y);
  }
}

template <OutFormat kFormat>
__global__ void __launch_bounds__(kThreads)
    MergeKernel(const __grid_constant__ Runs runs, uint32_t heads, uint32_t latent_width, void* out,
                float* lse) {
  const uint32_t token = blockIdx.x / heads;
  const uint32_t head = blockIdx.x % heads;
  const uint64_t first_column = uint64_t{blockIdx.x} * latent_width;
  float max = -INFINITY;
  uint32_t nonempty = 0;
  float only_lse = 0;
  for (uint32_t i = 0; i < runs.count; ++i) {
    const int64_t row = RowIn(runs[i], token, head, heads);
    if (row < 0) continue;
    const float value = runs[i].lse[row];
    if (value == -INFINITY) continue;
    ++nonempty;
    only_lse = value;
    max = fmaxf(max, value);
  }
  float sum = 0;
  for (uint32_t column = 2 * threadIdx.x; column < latent_width; column += 2 * kThreads) {
    float2 merged = make_float2(0, 0);
    sum = 0;
    for (uint32_t i = 0; i < runs.count; ++i) {
      const int64_t row = RowIn(runs[i], token, head, heads);
      if (row < 0) continue;
      const float value = runs[i].lse[row];
      if (value == -INFINITY) continue;
      const float2 pair = LoadPair<kFormat>(runs[i].out, row * latent_width + column);
      if (nonempty == 1) {
        merged = pair;
        break;
      }
      const float weight = expf(value - max);
      sum += weight;
      merged.x = fmaf(weight, pair.x, merged.x);
      merged.y = fmaf(weight, pair.y, merged.y);
    }
    const float inverse = nonempty <= 1 ? 1.0f : 1.0f / sum;
    StorePair<kFormat>(out, first_column + column,
                       make_float2(merged.x * inverse, merged.y * inverse));
  }
  if (threadIdx.x == 0) {
    lse[blockIdx.x] = nonempty == 0 ? -INFINITY : nonempty == 1 ? only_lse : max + logf(sum);
  }
}

template <OutFormat kFormat>
cudaError_t Launch(const Runs& runs, const MergeShape& shape, void* out, float* lse,
                   cudaStream_t stream) {
  MergeKernel<kFormat><<<shape.tokens * shape.heads, kThreads, 0, stream>>>(
      runs, shape.heads, shape.latent_width, out, lse);
  return cudaGetLastError();
}

cudaError_t LaunchFormat(const Runs& runs, const MergeShape& shape, void* out, float* lse,
                         cudaStream_t stream) {
  return shape.format == OutFormat::kFp32 ? Launch<OutFormat::kFp32>(runs, shape, out, lse, stream)
                                          : Launch<OutFormat::kBf16>(runs, shape, out, lse, stream);
}

}  // namespace

cudaError_t LaunchMerge(std::span<const MergeRun> runs, const MergeShape& shape, void* out,
                        float* lse, cudaStream_t stream) {
  if (shape.tokens == 0) return cudaSuccess;
  Runs parameters = {};
  parameters.count = static_cast<uint32_t>(runs.size());
  const size_t few = std::min<size_t>(runs.size(), kFewRuns);
  std::copy_n(runs.begin(), few, parameters.few);
  if (few == runs.size()) return LaunchFormat(parameters, shape, out, lse, stream);

  MergeRun* more = nullptr;
  const size_t bytes = (runs.size() - few) * sizeof(MergeRun);
  if (const cudaError_t error = cudaMallocAsync(&more, bytes, stream); error != cudaSuccess) {
    return error;
  }
  parameters.more = more;
  cudaError_t error =
      cudaMemcpyAsync(more, runs.data() + few, bytes, cudaMemcpyHostToDevice, stream);
  if (error == cudaSuccess) error = LaunchFormat(parameters, shape, out, lse, stream);
  const cudaError_t freed = cudaFreeAsync(more, stream);
  return error == cudaSuccess ? freed : error;
}

}  // namespace latentd
