// Times the rotation of a whole chunk in place (kernels/cuda/splice.h) as the attention benchmark
// times its kernels: warm (the same chunk each time: its rope values fit the L2) and cold (each
// launch another of 32 chunks). Beside it a copy, by cudaMemcpy2DAsync, of the same strided bytes to
// the same places of another chunk. Bytes count twice, read and written: rope values only, 128 a
// record.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/graph_timer.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/splice.h"
#include "kernels/mla.h"
#include "kernels/rope.h"

namespace latentd {
namespace {

constexpr Geometry kGeometry;
constexpr uint32_t kChunks = 32;

struct Case {
  const char* name;
  RecordFormat format;
  RopePairs pairs;
  uint32_t layers;
  uint32_t tokens;
  double target_us;  // 0: none
};

constexpr Case kCases[] = {
    {"bf16, 27 layers, 2k", RecordFormat::kBf16, RopePairs::kInterleaved, 27, 2048, 30},
    {"fp8, 27 layers, 2k", RecordFormat::kFp8, RopePairs::kInterleaved, 27, 2048, 30},
    {"bf16 halves, 27 layers, 2k", RecordFormat::kBf16, RopePairs::kHalves, 27, 2048, 30},
    {"bf16, 61 layers, 2k", RecordFormat::kBf16, RopePairs::kInterleaved, 61, 2048, 0},
    {"fp8, 61 layers, 2k", RecordFormat::kFp8, RopePairs::kInterleaved, 61, 2048, 0},
    {"bf16, 27 layers, 64", RecordFormat::kBf16, RopePairs::kInterleaved, 27, 64, 0},
};

void RunCase(const Case& c, DeviceMemory& memory, cudaStream_t stream) {
  const uint64_t record_bytes = RecordBytes(kGeometry, c.format);
  const uint64_t layer_bytes = kPageTokens * record_bytes;
  const uint64_t page_bytes = c.layers * layer_bytes;
  const uint32_t chunk_pages = (c.tokens + kPageTokens - 1) / kPageTokens;
  const uint64_t chunk_bytes = chunk_pages * page_bytes;
  Check(memory.Grow(kChunks * chunk_bytes));
  // Zeros: what values are does not change the time, and they stay finite however often they turn.
  Check(cudaMemset(memory.data(), 0, kChunks * chunk_bytes), "cudaMemset");

  std::vector<uint32_t> ids(kChunks * chunk_pages);
  std::iota(ids.begin(), ids.end(), 0u);
  std::shuffle(ids.begin(), ids.end(), std::mt19937(1));
  DeviceMemory device_ids;
  Check(device_ids.Grow(ids.size() * sizeof(uint32_t)));
  Check(cudaMemcpy(device_ids.data(), ids.data(), ids.size() * sizeof(uint32_t),
                   cudaMemcpyHostToDevice),
        "copy of page ids");

  const auto rope = Rope::Make({.width = kGeometry.rope_width, .pairs = c.pairs});
  Check(rope.status());
  const auto rotation = rope->RotationBy(1234);
  Check(rotation.status());
  const auto rotate = [&](uint32_t chunk) {
    Check(LaunchRotateChunk(
              kGeometry, c.format, *rotation, {memory.data(), page_bytes, layer_bytes},
              reinterpret_cast<const uint32_t*>(device_ids.data()) + uint64_t{chunk} * chunk_pages,
              c.layers, c.tokens, stream),
          "LaunchRotateChunk");
  };
  const uint64_t rope_bytes = kGeometry.rope_width * sizeof(Bf16);
  const uint64_t records = uint64_t{c.tokens} * c.layers;
  const auto copy = [&](uint32_t chunk) {
    const uint64_t rope_at = record_bytes - rope_bytes;
    Check(cudaMemcpy2DAsync(memory.data() + (chunk + 1) % kChunks * chunk_bytes + rope_at,
                            record_bytes, memory.data() + chunk * chunk_bytes + rope_at,
                            record_bytes, rope_bytes, records, cudaMemcpyDeviceToDevice, stream),
          "cudaMemcpy2DAsync");
  };
  const double warm_us = TimeGraph(stream, 20, 50, [&](int) { rotate(0); });
  const auto cold = [&](const auto& launch) {
    return TimeGraph(stream, kChunks, 50, [&](int i) { launch(static_cast<uint32_t>(i)); });
  };
  const double cold_us = cold(rotate);
  const double copy_us = cold(copy);
  const double bytes = 2.0 * static_cast<double>(records * rope_bytes);
  std::printf("%-28s %8.2f %8.2f %8.2f %8.2f %8.2f", c.name, warm_us, cold_us,
              bytes / cold_us / 1e6, copy_us, copy_us / cold_us);
  if (c.target_us > 0) {
    std::printf(" %7.1f %s", c.target_us, cold_us < c.target_us ? "met" : "MISS");
  }
  std::printf("\n");
  std::fflush(stdout);
}

int Main() {
  cudaDeviceProp properties;
  Check(cudaGetDeviceProperties(&properties, 0), "no CUDA device");
  std::printf("%s, %d multiprocessors, %d MB L2\n", properties.name, properties.multiProcessorCount,
              properties.l2CacheSize >> 20);
  cudaStream_t stream;
  Check(cudaStreamCreate(&stream), "stream");
  std::printf("%-28s %8s %8s %8s %8s %8s %7s\n", "rotation of a chunk", "warm us", "cold us",
              "TB/s", "copy us", "ratio", "target");
  DeviceMemory memory;
  for (const Case& c : kCases) RunCase(c, memory, stream);
  cudaStreamDestroy(stream);
  return 0;
}

}  // namespace
}  // namespace latentd

int main() { return latentd::Main(); }
