#include "kernels/cpu/helper_threads.h"

#include <time.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <thread>
#include <vector>

namespace latentd {
namespace {

// Work for helpers: a number of items to take.
struct Queue {
  std::atomic<int> left{0};
  std::atomic<int> done{0};

  bool Take() {
    int n = left.load();
    while (n > 0) {
      if (!left.compare_exchange_weak(n, n - 1)) continue;
      done.fetch_add(1);
      return true;
    }
    return false;
  }
  void WaitFor(int count) {
    while (done.load() < count) std::this_thread::yield();
  }
};

TEST_CASE("helpers do all work, spinning or asleep when it comes") {
  for (double spin_us : {0.0, 1000.0}) {
    for (int threads : {1, 3}) {
      CAPTURE(spin_us, threads);
      Queue queue;
      HelperThreads helpers(threads, {}, spin_us, [&](int) { return queue.Take(); });
      for (int round = 1; round <= 2000; ++round) {
        queue.left.fetch_add(1);
        helpers.Wake();
        queue.WaitFor(round);
      }
      REQUIRE(queue.done.load() == 2000);
    }
  }
}

TEST_CASE("one wake suffices for many items, and stopping needs none") {
  Queue queue;
  queue.left = 100;
  {
    HelperThreads helpers(2, {}, 0, [&](int) { return queue.Take(); });
    helpers.Wake();
    queue.WaitFor(100);
  }
  REQUIRE(queue.left.load() == 0);
}

TEST_CASE("idle helpers take no processor time") {
  std::atomic<int> looks{0};
  HelperThreads helpers(2, {}, 10, [&](int) {
    looks.fetch_add(1);
    return false;
  });
  // Each looks once, spins, and goes to sleep; then nothing moves.
  while (looks.load() < 2) std::this_thread::yield();
  const auto process_ns = [] {
    timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
  };
  const auto sleep = [] { std::this_thread::sleep_for(std::chrono::milliseconds(100)); };
  sleep();
  const auto before = process_ns();
  sleep();
  REQUIRE(process_ns() - before < 20'000'000);
  REQUIRE(looks.load() <= 4);
}

TEST_CASE("helpers run on the processors they are given, or anywhere if those do not exist") {
  for (const std::vector<int>& cpus : {std::vector<int>{0}, std::vector<int>{1000}}) {
    Queue queue;
    HelperThreads helpers(2, cpus, 0, [&](int) { return queue.Take(); });
    queue.left = 10;
    helpers.Wake();
    queue.WaitFor(10);
  }
}

}  // namespace
}  // namespace latentd
