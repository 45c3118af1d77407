// The CPU backend against what the machine can do: attention's multiply-adds against the peak of
// fp32 multiply-adds, and its record bytes against the memory's read bandwidth, all measured in the
// same run. README.md has the figures.
//
//   bazel run //kernels/cpu:attention_benchmark -- --benchmark_filter=bf16
//
// Counters: us (the median batch), rows_per_s, and what us is to what as many threads of this
// machine can do: fma_ratio, bandwidth_ratio. fma_cpu_ratio counts the processor time of all
// threads instead of us: beside other work it is the one to look at.

#include <benchmark/benchmark.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/machine_peaks.h"
#include "kernels/quantize.h"

namespace latentd {
namespace {

constexpr Geometry kGeometry{512, 64};
// Multiply-adds of one row and one record.
constexpr double kMultiplyAdds = 576 + 512;
constexpr uint32_t kChunkTokens = 2048;
constexpr uint32_t kChunkPages = kChunkTokens / kPageTokens;
// Tokens of the cases that are to miss every cache: 576 MiB of bf16 records.
constexpr uint32_t kColdTokens = 524288;

struct Case {
  const char* name;
  uint32_t problems;  // requesters that attend the same chunks
  uint32_t heads;
  uint32_t tokens;  // of context
};

constexpr Case kCases[] = {
    {"16heads_2k", 1, 16, 2048},        {"16heads_8k", 1, 16, 8192},
    {"128heads_2k", 1, 128, 2048},      {"fan_in_8x16heads_2k", 8, 16, 2048},
    {"1head_2k", 1, 1, 2048},           {"2heads_2k", 1, 2, 2048},
    {"6heads_2k", 1, 6, 2048},          {"1head_cold", 1, 1, kColdTokens},
    {"2heads_cold", 1, 2, kColdTokens},
};

// Memory in large pages, where the system has some: page walks are not what is measured here.
class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_((bytes + kLarge - 1) / kLarge * kLarge) {
    data_ = static_cast<std::byte*>(std::aligned_alloc(kLarge, bytes_));
    madvise(data_, bytes_, MADV_HUGEPAGE);
  }
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* data() { return data_; }
  std::span<const std::byte> span() const { return {data_, bytes_}; }

 private:
  static constexpr size_t kLarge = size_t{2} << 20;
  size_t bytes_;
  std::byte* data_;
};

// One layer of kColdTokens records in chunks of kChunkTokens, the pages of a chunk in order.
struct Cache {
  explicit Cache(RecordFormat record_format)
      : format(record_format),
        page_bytes(kPageTokens * RecordBytes(kGeometry, format)),
        memory(kColdTokens / kPageTokens * page_bytes) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<Bf16> page(kPageTokens * kGeometry.row_width());
    for (Bf16& value : page) value = FloatToBf16(normal(random));
    auto* records = reinterpret_cast<const std::byte*>(page.data());
    if (format == RecordFormat::kFp8) {
      QuantizeRecords(kGeometry, records, kPageTokens, memory.data());
    } else {
      std::memcpy(memory.data(), records, page_bytes);
    }
    for (uint32_t p = 0; p < kColdTokens / kPageTokens; ++p) {
      page_ids.push_back(p);
      if (p > 0) std::memcpy(memory.data() + p * page_bytes, memory.data(), page_bytes);
    }
  }

  CacheView view() { return {memory.data(), page_bytes, page_bytes}; }

  RecordFormat format;
  uint64_t page_bytes;
  Memory memory;
  std::vector<uint32_t> page_ids;
};

Cache& CacheOf(RecordFormat format) {
  static Cache bf16(RecordFormat::kBf16);
  static Cache fp8(RecordFormat::kFp8);
  return format == RecordFormat::kBf16 ? bf16 : fp8;
}

struct Peaks {
  double multiply_adds;
  double bandwidth;
};

// Measured once per number of threads, and printed.
const Peaks& PeaksOf(int threads) {
  static std::map<int, Peaks> known;
  auto [it, is_new] = known.try_emplace(threads);
  if (is_new) {
    it->second = {MeasurePeakMultiplyAdds(threads),
                  MeasureReadBandwidth(CacheOf(RecordFormat::kBf16).memory.span(), threads)};
    std::fprintf(stderr, "peak of %d thread(s): %.1f G multiply-adds/s, %.1f GB/s read\n", threads,
                 it->second.multiply_adds * 1e-9, it->second.bandwidth * 1e-9);
  }
  return it->second;
}

// Of all threads.
double ProcessCpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The batch of a case and all it points to.
struct Batch {
  Batch(const Case& c, Cache& cache) {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (uint32_t first = 0; first < c.tokens; first += kChunkTokens) {
      segments.push_back({.page_ids = cache.page_ids.data() + first / kChunkTokens * kChunkPages,
                          .visible_tokens = kChunkTokens,
                          .tokens_after = c.tokens - first - kChunkTokens});
    }
    group = {.tokens = 1, .segments = static_cast<uint32_t>(segments.size())};
    const uint64_t count = uint64_t{c.problems} * c.heads;
    rows.resize(count * kGeometry.row_width());
    for (Bf16& value : rows) value = FloatToBf16(normal(random));
    out.resize(count * kGeometry.latent_width);
    lse.resize(count);
    for (uint64_t i = 0; i < c.problems; ++i) {
      problems.push_back({.tokens = 1,
                          .heads = c.heads,
                          .scale = 0.1352337788608801f,
                          .groups = {&group, 1},
                          .segments = segments,
                          .rows = rows.data() + i * c.heads * kGeometry.row_width(),
                          .out = out.data() + i * c.heads * kGeometry.latent_width,
                          .lse = lse.data() + i * c.heads});
    }
  }

  Group group;
  std::vector<Segment> segments;
  std::vector<Bf16> rows;
  std::vector<Bf16> out;
  std::vector<float> lse;
  std::vector<Problem> problems;
};

void Attend(benchmark::State& state, const Case& c, RecordFormat format, int threads) {
  Cache& cache = CacheOf(format);
  const Peaks& peaks = PeaksOf(threads);
  Batch batch(c, cache);
  const auto backend = MakeCpuBackend({.geometry = kGeometry,
                                       .format = format,
                                       .cache = cache.view(),
                                       .threads = threads - 1,
                                       .spin_us = 50});
  std::vector<double> wall, cpu;
  std::vector<BatchResult> done;
  for (auto _ : state) {
    const double cpu_begin = ProcessCpuSeconds();
    const auto begin = std::chrono::steady_clock::now();
    backend->Submit(1, batch.problems);
    for (done.clear(); done.empty();) backend->Poll(done);
    wall.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    cpu.push_back(ProcessCpuSeconds() - cpu_begin);
  }
  const double median = Median(wall);
  const double rows = c.problems * c.heads;
  state.counters["us"] = median * 1e6;
  state.counters["rows_per_s"] = rows / median;
  const double multiply_adds = rows * c.tokens * kMultiplyAdds;
  state.counters["fma_ratio"] = multiply_adds / median / peaks.multiply_adds;
  state.counters["fma_cpu_ratio"] = multiply_adds / Median(cpu) / (peaks.multiply_adds / threads);
  state.counters["bandwidth_ratio"] =
      static_cast<double>(RecordBytes(kGeometry, format)) * c.tokens / median / peaks.bandwidth;
}

void RegisterCases() {
  const int all = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (RecordFormat format : {RecordFormat::kBf16, RecordFormat::kFp8}) {
    for (const Case& c : kCases) {
      for (int threads : {1, all}) {
        const std::string name = std::string(RecordFormatName(format)) + "/" + c.name +
                                 "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(
            name.c_str(),
            [&c, format, threads](benchmark::State& state) { Attend(state, c, format, threads); })
            ->UseRealTime()
            ->MinTime(0.5);
        if (all == 1) break;
      }
    }
  }
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) {
  latentd::RegisterCases();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
