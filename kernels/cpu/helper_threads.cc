#include "kernels/cpu/helper_threads.h"

#include <pthread.h>
#include <sched.h>

#include <chrono>
#include <string>
#include <utility>

#include "hwy/cache_control.h"

namespace latentd {

HelperThreads::HelperThreads(int count, std::span<const int> cpus, double spin_us,
                             std::function<bool(int)> run_one)
    : spin_us_(spin_us), run_one_(std::move(run_one)) {
  for (int i = 0; i < count; ++i) {
    std::thread& thread = threads_.emplace_back([this, i] { Run(i); });
    pthread_setname_np(thread.native_handle(), ("cpu-helper-" + std::to_string(i)).c_str());
    if (cpus.empty()) continue;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpus[static_cast<size_t>(i) % cpus.size()], &set);
    // A CPU that does not exist or is not ours: the helper runs wherever it may.
    pthread_setaffinity_np(thread.native_handle(), sizeof(set), &set);
  }
}

HelperThreads::~HelperThreads() {
  stop_.store(true);
  work_.fetch_add(1);
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void HelperThreads::Wake() {
  // Both sides are sequentially consistent: either this sees the sleeper, or the sleeper sees the
  // new count.
  work_.fetch_add(1);
  if (sleepers_.load() > 0) work_.notify_one();
}

void HelperThreads::Run(int helper) {
  while (!stop_.load()) {
    const uint32_t seen = work_.load();
    if (run_one_(helper) || SpinForWork(seen)) continue;
    sleepers_.fetch_add(1);
    work_.wait(seen);
    sleepers_.fetch_sub(1);
  }
}

bool HelperThreads::SpinForWork(uint32_t seen) const {
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::nanoseconds(static_cast<int64_t>(spin_us_ * 1000));
  do {
    for (int i = 0; i < 16; ++i) {
      if (work_.load(std::memory_order_relaxed) != seen) return true;
      hwy::Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace latentd
