// Times the attention kernels as issue tables have them: a CUDA graph of launches, replayed, the
// median; warm (the same problem each time) and cold (each launch another chunk, 64 of them, or 160
// MB). Launches include whatever merges partials; plans are uploaded before.
//
//     attention_gpu_benchmark [part of a case's name] [the only latency kernel to use, or -1]
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda/graph_timer.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/make_arena.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/plan.h"
#include "kernels/quantize.h"

namespace latentd {
namespace {

constexpr Geometry kGeometry;
constexpr float kScale = 0.1352337788608801f;

struct Case {
  const char* name;
  RecordFormat format;
  uint32_t requesters;
  uint32_t heads;
  uint32_t tokens;
  bool same_chunk;
  double peer_us;  // the best public kernel's; 0: none
  double target_us;
};

constexpr auto kBf16 = RecordFormat::kBf16;
constexpr auto kFp8 = RecordFormat::kFp8;

constexpr Case kCases[] = {
    {"1 x 128 heads, 512", kBf16, 1, 128, 512, false, 11.1, 4.5},
    {"1 x 128 heads, 2k", kBf16, 1, 128, 2048, false, 19.4, 7.5},
    {"1 x 128 heads, 8k", kBf16, 1, 128, 8192, false, 25.4, 15},
    {"1 x 16 heads, 512", kBf16, 1, 16, 512, false, 9.3, 0},
    {"1 x 16 heads, 2k", kBf16, 1, 16, 2048, false, 15.8, 5},
    {"1 x 16 heads, 8k", kBf16, 1, 16, 8192, false, 25.2, 0},
    {"8 x 128 heads, 2k each", kBf16, 8, 128, 2048, false, 26.3, 18},
    {"8 x 16 heads, 2k each", kBf16, 8, 16, 2048, false, 0, 0},
    {"64 x 16 heads, same 2k", kBf16, 64, 16, 2048, true, 59.9, 20},
    {"64 x 128 heads, same 2k", kBf16, 64, 128, 2048, true, 56.9, 54},
    {"128 x 128 heads, 8k each", kBf16, 128, 128, 8192, false, 539, 521},
    {"128 x 64 heads, 8k each", kBf16, 128, 64, 8192, false, 0, 410},
    {"128 x 16 heads, 8k each", kBf16, 128, 16, 8192, false, 410, 410},
    {"fp8 1 x 128 heads, 2k", kFp8, 1, 128, 2048, false, 17.5, 0},
    {"fp8 1 x 16 heads, 2k", kFp8, 1, 16, 2048, false, 0, 0},
    {"fp8 128 x 128 heads, 2k each", kFp8, 128, 128, 2048, false, 175, 0},
    {"fp8 128 x 16 heads, 8k each", kFp8, 128, 16, 8192, false, 0, 254},
};

// Random records in scattered pages; one layer.
class Cache {
 public:
  Cache(RecordFormat format, uint32_t pages) : page_ids_(pages) {
    const uint64_t bytes = kPageTokens * RecordBytes(kGeometry, format);
    Check(memory_.Grow(pages * bytes));
    // A megabyte of random records again and again: values matter only in kind.
    constexpr uint32_t kDistinct = 16;
    std::vector<std::byte> some(kDistinct * bytes);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<Bf16> values(kDistinct * kPageTokens * kGeometry.row_width());
    for (Bf16& value : values) value = FloatToBf16(normal(random));
    const auto* records = reinterpret_cast<const std::byte*>(values.data());
    if (format == RecordFormat::kBf16) {
      std::memcpy(some.data(), records, some.size());
    } else {
      QuantizeRecords(kGeometry, records, kDistinct * kPageTokens, some.data());
    }
    for (uint32_t page = 0; page < pages; page += kDistinct) {
      const uint64_t count = std::min(kDistinct, pages - page);
      Check(cudaMemcpy(memory_.data() + page * bytes, some.data(), count * bytes,
                       cudaMemcpyHostToDevice),
            "copy of records");
    }
    for (uint32_t i = 0; i < pages; ++i) page_ids_[i] = i;
    std::shuffle(page_ids_.begin(), page_ids_.end(), random);
    const auto arena = MakeArena(kGeometry, format, {memory_.data(), bytes, bytes}, pages);
    Check(arena.status());
    arena_ = *arena;
    const auto device = PreparePlanDevice(arena_);
    Check(device.status());
    device_ = *device;
  }
  const uint32_t* page_ids(uint32_t first) const { return page_ids_.data() + first; }
  uint32_t pages() const { return static_cast<uint32_t>(page_ids_.size()); }
  const Arena& arena() const { return arena_; }
  const PlanDevice& device() const { return device_; }
  // And no other; -1: none.
  void AllowLatencyKernel(int only) {
    for (int k = 0; k < static_cast<int>(kLatencyKernelCount); ++k) {
      if (k != only) device_.latency_clusters[static_cast<size_t>(k)] = 0;
    }
  }

 private:
  DeviceMemory memory_;
  std::vector<uint32_t> page_ids_;
  Arena arena_;
  PlanDevice device_;
};

std::string Describe(const BatchPlan& plan) {
  if (plan.form() == Form::kLatency) {
    const LatencyShape& s = plan.latency_shape();
    return "latency " + std::to_string(s.heads) + "h c" + std::to_string(s.cluster_size) + " b" +
           std::to_string(s.blocks) + " s" + std::to_string(s.splits);
  }
  const std::string form = plan.form() == Form::kNarrow
                               ? "narrow"
                               : "throughput c" + std::to_string(plan.cluster_size());
  return form + " items " + std::to_string(plan.items().size()) +
         (plan.merges().empty() ? "" : " +combine");
}

void RunCase(const Case& c, const Cache& cache, cudaStream_t stream) {
  const uint64_t rows = uint64_t{c.requesters} * c.heads;
  DeviceMemory queries;
  DeviceMemory out;
  DeviceMemory lse;
  Check(queries.Grow(rows * kGeometry.row_width() * sizeof(Bf16)));
  Check(out.Grow(rows * kGeometry.latent_width * sizeof(Bf16)));
  Check(lse.Grow(rows * sizeof(float)));
  {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<Bf16> host(rows * kGeometry.row_width());
    for (size_t i = 0; i < host.size(); ++i) {
      host[i] = i < 300'000 ? FloatToBf16(normal(random)) : host[i - 300'000];
    }
    Check(
        cudaMemcpy(queries.data(), host.data(), host.size() * sizeof(Bf16), cudaMemcpyHostToDevice),
        "copy of queries");
  }
  const uint32_t chunk_pages = c.tokens / kPageTokens;
  const uint32_t set_pages = chunk_pages * (c.same_chunk ? 1 : c.requesters);
  const uint32_t cold_sets = std::clamp(cache.pages() / set_pages, 1u, 64u);

  // Set s: the same requesters over other chunks.
  std::vector<UploadedPlan> plans(cold_sets);
  std::string description;
  for (uint32_t s = 0; s < cold_sets; ++s) {
    const Group group{.first_token = 0, .tokens = 1, .first_segment = 0, .segments = 1};
    std::vector<Segment> segments(c.requesters);
    std::vector<Problem> problems;
    for (uint32_t r = 0; r < c.requesters; ++r) {
      segments[r] = {cache.page_ids(s * set_pages + (c.same_chunk ? 0 : r * chunk_pages)), c.tokens,
                     0};
      problems.push_back(
          {.tokens = 1,
           .heads = c.heads,
           .scale = kScale,
           .groups = {&group, 1},
           .segments = {&segments[r], 1},
           .rows = reinterpret_cast<const Bf16*>(queries.data()) +
                   uint64_t{r} * c.heads * kGeometry.row_width(),
           .out_format = OutFormat::kBf16,
           .out = out.data() + uint64_t{r} * c.heads * kGeometry.latent_width * sizeof(Bf16),
           .lse = reinterpret_cast<float*>(lse.data()) + uint64_t{r} * c.heads});
    }
    BatchPlan plan;
    plan.Build(kGeometry, problems, cache.device());
    description = Describe(plan);
    Check(plans[s].Upload(plan, c.requesters, cache.arena(), false, stream));
    Check(cudaStreamSynchronize(stream), "upload");
  }
  const uint64_t work = rows * c.tokens;
  const int launches = work > 50'000'000 ? 3 : 20;
  const int replays = work > 50'000'000 ? 7 : 50;
  const auto time = [&](int count, bool rotate) {
    return TimeGraph(stream, count, replays, [&](int i) {
      Check(plans[rotate ? static_cast<size_t>(i) % cold_sets : 0].Launch(cache.arena(), stream));
    });
  };
  const double warm_us = time(launches, false);
  const double cold_us = cold_sets > 1 ? time(static_cast<int>(cold_sets), true) : warm_us;
  const double tflops = 2.0 * static_cast<double>(work) *
                        (kGeometry.row_width() + kGeometry.latent_width) / warm_us / 1e6;
  const double bytes =
      static_cast<double>(uint64_t{set_pages} * kPageTokens * RecordBytes(kGeometry, c.format));
  std::printf("%-29s %8.2f %8.2f %7.0f %6.2f", c.name, warm_us, cold_us, tflops,
              bytes / warm_us / 1e6);
  if (c.peer_us > 0) {
    std::printf(" %7.1f %5.2f", c.peer_us, warm_us / c.peer_us);
  } else {
    std::printf(" %7s %5s", "", "");
  }
  if (c.target_us > 0) {
    std::printf(" %6.1f %-4s", c.target_us, warm_us <= c.target_us ? "met" : "MISS");
  } else {
    std::printf(" %6s %-4s", "", "");
  }
  std::printf(" %s\n", description.c_str());
  std::fflush(stdout);
}

int Main(const char* filter, const char* only_kernel) {
  cudaDeviceProp properties;
  Check(cudaGetDeviceProperties(&properties, 0), "no CUDA device");
  std::printf("%s, %d multiprocessors, %d MB L2, CUDA %d.%d\n", properties.name,
              properties.multiProcessorCount, properties.l2CacheSize >> 20, CUDART_VERSION / 1000,
              CUDART_VERSION % 1000 / 10);
  cudaStream_t stream;
  Check(cudaStreamCreate(&stream), "stream");
  bool header = false;
  for (RecordFormat format : {RecordFormat::kBf16, RecordFormat::kFp8}) {
    Cache cache(format, 128 * 128);
    if (only_kernel != nullptr) cache.AllowLatencyKernel(std::atoi(only_kernel));
    if (!header) {
      std::printf("clusters at once:");
      for (uint32_t size = 1; size <= kMaxClusterSize; ++size) {
        std::printf(" %u:%u", size, cache.device().active_clusters[size]);
      }
      std::printf("; of the latency kernels:");
      for (uint32_t k = 0; k < kLatencyKernelCount; ++k) {
        std::printf(" %u", cache.device().latency_clusters[k]);
      }
      std::printf("\n");
      std::printf("%-29s %8s %8s %7s %6s %7s %5s %6s\n", "case", "warm us", "cold us", "TFLOP/s",
                  "TB/s", "peer us", "ratio", "target");
      header = true;
    }
    for (const Case& c : kCases) {
      if (c.format == format && std::strstr(c.name, filter) != nullptr) RunCase(c, cache, stream);
    }
  }
  cudaStreamDestroy(stream);
  return 0;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) {
  return latentd::Main(argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : nullptr);
}
