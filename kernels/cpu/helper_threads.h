// A few threads that run one function over and over while it finds work, spin a little when it does
// not, and then sleep.
//
// Wake costs nothing while a helper is awake and one system call when all sleep. Sleeping helpers
// take no CPU.
#ifndef LATENTD_KERNELS_CPU_HELPER_THREADS_H_
#define LATENTD_KERNELS_CPU_HELPER_THREADS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <thread>
#include <vector>

namespace latentd {

class HelperThreads {
 public:
  // Starts `count` threads. `run_one(i)` is called on helper i's thread; it does a piece of work
  // and returns true, or finds none and returns false. Helper i is bound to cpus[i % size] unless
  // cpus is empty.
  HelperThreads(int count, std::span<const int> cpus, double spin_us,
                std::function<bool(int)> run_one);
  // Stops each helper after the piece of work it is in.
  ~HelperThreads();

  HelperThreads(const HelperThreads&) = delete;
  HelperThreads& operator=(const HelperThreads&) = delete;

  // Any thread, after it has made work available: awake helpers look again, and one sleeping helper
  // wakes. A helper that finds more than it can take calls Wake in turn, so that nobody pays for
  // waking everybody.
  void Wake();

 private:
  void Run(int helper);
  // True as soon as there may be work; false when it is time to sleep.
  bool SpinForWork(uint32_t seen) const;

  const double spin_us_;
  const std::function<bool(int)> run_one_;
  std::atomic<bool> stop_{false};
  std::atomic<uint32_t> work_{0};  // changes whenever there is new work
  std::atomic<int> sleepers_{0};
  std::vector<std::thread> threads_;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CPU_HELPER_THREADS_H_
