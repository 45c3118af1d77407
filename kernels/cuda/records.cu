#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/records.h"

namespace latentd {
namespace {

constexpr uint32_t kFullWarp = 0xffffffff;
constexpr uint32_t kLanes = 32;
constexpr uint32_t kWarps = 4;  // a CTA of these kernels; each warp has a task of its own

// --- Copies ---

constexpr uint32_t kCopyThreads = 128;
// Loads on their way at once, of one thread: host memory answers after about a microsecond.
constexpr uint32_t kCopyDepth = 4;
constexpr uint32_t kCopyPartBytes = kCopyThreads * kCopyDepth * sizeof(uint4);

template <typename Unit>
__device__ void CopyPart(std::byte* to, const std::byte* from, uint32_t bytes) {
  const uint32_t units = bytes / sizeof(Unit);
  for (uint32_t first = threadIdx.x; first < units; first += kCopyThreads * kCopyDepth) {
    Unit values[kCopyDepth];
#pragma unroll
    for (uint32_t i = 0; i < kCopyDepth; ++i) {
      const uint32_t unit = first + i * kCopyThreads;
      if (unit < units) values[i] = reinterpret_cast<const Unit*>(from)[unit];
    }
#pragma unroll
    for (uint32_t i = 0; i < kCopyDepth; ++i) {
      const uint32_t unit = first + i * kCopyThreads;
      if (unit < units) reinterpret_cast<Unit*>(to)[unit] = values[i];
    }
  }
}

// One CTA for each part of kCopyPartBytes of a run; no part, no work. Addresses are numbers until the
// end: to the compiler an offset from a null pointer is a fault.
__device__ void CopyRunPart(uintptr_t to, uintptr_t from, const CopyRun& run) {
  const uint32_t begin = blockIdx.y * kCopyPartBytes;
  if (begin >= run.bytes) return;
  to += run.to + begin;
  from += run.from + begin;
  const uint32_t bytes = min(run.bytes - begin, kCopyPartBytes);
  auto* target = reinterpret_cast<std::byte*>(to);
  const auto* source = reinterpret_cast<const std::byte*>(from);
  if ((to | from | bytes) % sizeof(uint4) == 0) {
    CopyPart<uint4>(target, source, bytes);
  } else {
    // Records of unusual widths.
    CopyPart<std::byte>(target, source, bytes);
  }
}

// To be called by all of a CTA once it has copied.
__device__ void TellDone(const CopyDone& done) {
  if (done.done == nullptr) return;
  __syncthreads();
  if (threadIdx.x != 0) return;
  __threadfence_system();
  const uint32_t ctas = gridDim.x * gridDim.y;
  if (atomicAdd(done.arrivals, 1) != ctas - 1) return;
  *done.arrivals = 0;
  __threadfence_system();
  *static_cast<volatile uint32_t*>(done.done) = done.ticket;
}

__global__ void __launch_bounds__(kCopyThreads)
    CopyRunsKernel(std::byte* to, const std::byte* from, const CopyRun* runs, const CopyDone done) {
  CopyRunPart(reinterpret_cast<uintptr_t>(to), reinterpret_cast<uintptr_t>(from), runs[blockIdx.x]);
  TellDone(done);
}

struct FewCopyRuns {
  CopyRun run[kFewCopyRuns];
};

__global__ void __launch_bounds__(kCopyThreads)
    FewCopyRunsKernel(const __grid_constant__ FewCopyRuns runs, const CopyDone done) {
  CopyRunPart(0, 0, runs.run[blockIdx.x]);
  TellDone(done);
}

// --- Quantiser ---

// kernels/quantize.cc says why.
__device__ int ScaleExponent(float amax) {
  if (amax == 0) return 0;
  const int e = ilogbf(amax);
  const int exponent = ldexpf(amax, -e) <= 1.75f ? e - 8 : e - 7;
  return min(max(exponent, -126), 119);
}

// One warp for each run of kFp8ScaleWidth latent values, and one for the record's rope values.
__global__ void __launch_bounds__(kWarps* kLanes)
    QuantizeKernel(const Geometry g, const std::byte* bf16_records, uint32_t count,
                   std::byte* fp8_records, uint32_t fp8_bytes) {
  const uint32_t lane = threadIdx.x % kLanes;
  const uint32_t blocks = g.latent_width / kFp8ScaleWidth;
  const uint64_t task = uint64_t{blockIdx.x} * kWarps + threadIdx.x / kLanes;
  const uint64_t record = task / (blocks + 1);
  const auto block = static_cast<uint32_t>(task % (blocks + 1));
  if (record >= count) return;
  const auto* from =
      reinterpret_cast<const uint16_t*>(bf16_records) + record * (g.latent_width + g.rope_width);
  std::byte* to = fp8_records + record * fp8_bytes;
  std::byte* scales = to + g.latent_width;
  if (block == blocks) {
    auto* rope = reinterpret_cast<uint16_t*>(scales + blocks * sizeof(float));
    for (uint32_t i = lane; i < g.rope_width; i += kLanes) rope[i] = from[g.latent_width + i];
    return;
  }
  constexpr uint32_t kEach = kFp8ScaleWidth / kLanes;
  float values[kEach];
  float amax = 0;
  for (uint32_t i = 0; i < kEach; ++i) {
    const uint32_t bits = from[block * kFp8ScaleWidth + i * kLanes + lane];
    values[i] = __uint_as_float(bits << 16);
    amax = fmaxf(amax, fabsf(values[i]));
  }
  for (uint32_t step = kLanes / 2; step > 0; step /= 2) {
    amax = fmaxf(amax, __shfl_xor_sync(kFullWarp, amax, step));
  }
  const int exponent = ScaleExponent(amax);
  for (uint32_t i = 0; i < kEach; ++i) {
    to[block * kFp8ScaleWidth + i * kLanes + lane] = static_cast<std::byte>(
        __nv_cvt_float_to_fp8(ldexpf(values[i], -exponent), __NV_SATFINITE, __NV_E4M3));
  }
  if (lane == 0) reinterpret_cast<float*>(scales)[block] = ldexpf(1.0f, exponent);
}

// --- Non-finite values ---

__device__ bool AnyNonFiniteBf16(const std::byte* values, uint32_t count, uint32_t lane) {
  constexpr uint16_t kExponent = 0x7f80;
  bool bad = false;
  for (uint32_t i = lane; i < count; i += kLanes) {
    bad |= (reinterpret_cast<const uint16_t*>(values)[i] & kExponent) == kExponent;
  }
  return bad;
}

__global__ void __launch_bounds__(kWarps* kLanes)
    FindNonFiniteKernel(const Geometry g, RecordFormat format, const std::byte* records,
                        uint32_t record_bytes, uint32_t count, uint32_t* first) {
  const uint32_t lane = threadIdx.x % kLanes;
  const uint32_t index = blockIdx.x * kWarps + threadIdx.x / kLanes;
  if (index >= count) return;
  const std::byte* record = records + uint64_t{index} * record_bytes;
  bool bad = false;
  if (format == RecordFormat::kBf16) {
    bad = AnyNonFiniteBf16(record, g.latent_width + g.rope_width, lane);
  } else {
    constexpr float kFp8Max = 448;
    constexpr float kFloatMax = 0x1.fffffep127f;
    constexpr uint32_t kNan = 0x7f;
    const uint32_t blocks = g.latent_width / kFp8ScaleWidth;
    for (uint32_t i = lane; i < g.latent_width; i += kLanes) {
      bad |= (static_cast<uint32_t>(record[i]) & kNan) == kNan;
    }
    for (uint32_t i = lane; i < blocks; i += kLanes) {
      const float scale = reinterpret_cast<const float*>(record + g.latent_width)[i];
      bad |= !(fabsf(scale) <= kFloatMax / kFp8Max);
    }
    bad |= AnyNonFiniteBf16(record + g.latent_width + blocks * sizeof(float), g.rope_width, lane);
  }
  if (__any_sync(kFullWarp, bad) && lane == 0) atomicMin(first, index);
}

dim3 CopyGrid(uint32_t runs, uint32_t max_bytes) {
  return dim3(runs, (max_bytes + kCopyPartBytes - 1) / kCopyPartBytes);
}

}  // namespace

cudaError_t LaunchCopyRuns(std::byte* to, const std::byte* from, const CopyRun* runs,
                           uint32_t count, uint32_t max_bytes, const CopyDone& done,
                           cudaStream_t stream) {
  CopyRunsKernel<<<CopyGrid(count, max_bytes), kCopyThreads, 0, stream>>>(to, from, runs, done);
  return cudaGetLastError();
}

cudaError_t LaunchFewCopyRuns(const CopyRun* runs, uint32_t count, const CopyDone& done,
                              cudaStream_t stream) {
  FewCopyRuns few;
  uint32_t max_bytes = 0;
  for (uint32_t i = 0; i < count; ++i) {
    few.run[i] = runs[i];
    max_bytes = std::max(max_bytes, runs[i].bytes);
  }
  FewCopyRunsKernel<<<CopyGrid(count, max_bytes), kCopyThreads, 0, stream>>>(few, done);
  return cudaGetLastError();
}

cudaError_t LaunchQuantizeRecords(const Geometry& geometry, const std::byte* bf16_records,
                                  uint32_t count, std::byte* fp8_records, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  const uint64_t tasks = uint64_t{count} * (geometry.latent_width / kFp8ScaleWidth + 1);
  QuantizeKernel<<<static_cast<uint32_t>((tasks + kWarps - 1) / kWarps), kWarps * kLanes, 0,
                   stream>>>(geometry, bf16_records, count, fp8_records,
                             RecordBytes(geometry, RecordFormat::kFp8));
  return cudaGetLastError();
}

cudaError_t LaunchFindNonFinite(const Geometry& geometry, RecordFormat format,
                                const std::byte* records, uint32_t count, uint32_t* first,
                                cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  FindNonFiniteKernel<<<(count + kWarps - 1) / kWarps, kWarps * kLanes, 0, stream>>>(
      geometry, format, records, RecordBytes(geometry, format), count, first);
  return cudaGetLastError();
}

}  // namespace latentd
