#include "kernels/cpu/machine_peaks.h"

#include <time.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/machine_peaks.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace latentd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Twelve independent chains hide the latency of any machine's multiply-add.
float MultiplyAdds(uint64_t rounds) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.999f);
  const auto step = hn::Set(d, 0.001f);
  hn::Vec<decltype(d)> sums[12];
  for (auto& sum : sums) sum = hn::Set(d, 1.0f);
  for (uint64_t i = 0; i < rounds; ++i) {
    _Pragma("GCC unroll 12") for (auto& sum : sums) sum = hn::MulAdd(sum, factor, step);
  }
  auto total = sums[0];
  for (int i = 1; i < 12; ++i) total = hn::Add(total, sums[i]);
  return hn::GetLane(hn::SumOfLanes(d, total));
}

uint64_t MultiplyAddsPerRound() { return 12 * hn::Lanes(hn::ScalableTag<float>()); }

uint64_t Read(const std::byte* bytes, size_t count) {
  const hn::ScalableTag<uint64_t> d;
  const size_t step = hn::Lanes(d) * sizeof(uint64_t);
  hn::Vec<decltype(d)> sums[8];
  for (auto& sum : sums) sum = hn::Zero(d);
  for (size_t i = 0; i + 8 * step <= count; i += 8 * step) {
    _Pragma("GCC unroll 8") for (size_t j = 0; j < 8; ++j) {
      const auto* words = reinterpret_cast<const uint64_t*>(bytes + i + j * step);
      sums[j] = hn::Add(sums[j], hn::LoadU(d, words));
    }
  }
  for (int i = 1; i < 8; ++i) sums[0] = hn::Add(sums[0], sums[i]);
  return hn::GetLane(hn::SumOfLanes(d, sums[0]));
}

}  // namespace HWY_NAMESPACE
}  // namespace latentd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace latentd {
namespace {

HWY_EXPORT(MultiplyAdds);
HWY_EXPORT(MultiplyAddsPerRound);
HWY_EXPORT(Read);

// Keeps results from being optimised away.
volatile uint64_t sink = 0;

using Clock = std::chrono::steady_clock;

double ThreadCpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// How long `threads` threads take to do work(thread), in seconds, the best of five.
struct Times {
  double wall =
      1e30;  // from the first one's start to the last one's end, as they see it themselves
  double cpu =
      1e30;  // the longest of their own processor times: what others run beside them does not count
};

Times BestTimes(int threads, const std::function<void(int)>& work) {
  Times best;
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::barrier start(threads);
    const auto count = static_cast<size_t>(threads);
    std::vector<Clock::time_point> begins(count), ends(count);
    std::vector<double> cpu(count);
    std::vector<std::thread> workers;
    for (size_t i = 0; i < count; ++i) {
      workers.emplace_back([&, i] {
        start.arrive_and_wait();
        const double cpu_begin = ThreadCpuSeconds();
        begins[i] = Clock::now();
        work(static_cast<int>(i));
        ends[i] = Clock::now();
        cpu[i] = ThreadCpuSeconds() - cpu_begin;
      });
    }
    for (std::thread& worker : workers) worker.join();
    const std::chrono::duration<double> wall = *std::max_element(ends.begin(), ends.end()) -
                                               *std::min_element(begins.begin(), begins.end());
    best.wall = std::min(best.wall, wall.count());
    best.cpu = std::min(best.cpu, *std::max_element(cpu.begin(), cpu.end()));
  }
  return best;
}

}  // namespace

double MeasurePeakMultiplyAdds(int threads) {
  constexpr uint64_t kRounds = 4'000'000;
  const uint64_t per_round = HWY_DYNAMIC_DISPATCH(MultiplyAddsPerRound)();
  const Times times = BestTimes(threads, [](int) {
    sink = static_cast<uint64_t>(HWY_DYNAMIC_DISPATCH(MultiplyAdds)(kRounds));
  });
  return static_cast<double>(kRounds * per_round) * threads / times.cpu;
}

double MeasureReadBandwidth(std::span<const std::byte> buffer, int threads) {
  const size_t part = buffer.size() / static_cast<size_t>(threads);
  const Times times = BestTimes(threads, [&](int thread) {
    sink = HWY_DYNAMIC_DISPATCH(Read)(buffer.data() + static_cast<size_t>(thread) * part, part);
  });
  return static_cast<double>(buffer.size()) / times.wall;
}

}  // namespace latentd
#endif  // HWY_ONCE
