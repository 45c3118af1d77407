// Runs the simulation on many seeds, or replays one:
//     simulate --seeds 10000 [--from 1] [--threads 2]
//     simulate --seed 4711 [--verbose]
// Exit code 1: an invariant was broken; the seed is printed.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/sim/sim_world.h"

namespace latentd::sim {
namespace {

struct Arguments {
  uint64_t from = 1;
  uint64_t seeds = 200;
  uint64_t threads = std::thread::hardware_concurrency();
  bool verbose = false;
};

bool Parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--verbose") {
      arguments.verbose = true;
      continue;
    }
    if (++i == argc) return false;
    const uint64_t value = std::strtoull(argv[i], nullptr, 10);
    if (name == "--seed") {
      arguments.from = value;
      arguments.seeds = 1;
    } else if (name == "--seeds") {
      arguments.seeds = value;
    } else if (name == "--from") {
      arguments.from = value;
    } else if (name == "--threads") {
      arguments.threads = value;
    } else {
      return false;
    }
  }
  return arguments.threads > 0;
}

int Main(const Arguments& arguments) {
  std::mutex mutex;
  SimCounts sum;
  uint64_t failures = 0;
  std::atomic<uint64_t> next = arguments.from;
  const uint64_t end = arguments.from + arguments.seeds;
  const auto work = [&] {
    for (uint64_t seed = next++; seed < end; seed = next++) {
      SimWorld world({.seed = seed, .verbose = arguments.verbose});
      const std::vector<std::string> breaches = world.Run();
      const std::lock_guard<std::mutex> lock(mutex);
      const SimCounts& counts = world.counts();
      sum.tables += counts.tables;
      sum.faults += counts.faults;
      sum.requests += counts.requests;
      sum.answers += counts.answers;
      sum.failed += counts.failed;
      sum.sealed += counts.sealed;
      sum.lost += counts.lost;
      sum.events += counts.events;
      if (breaches.empty()) continue;
      ++failures;
      for (const std::string& breach : breaches) {
        std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), breach.c_str());
      }
      std::fflush(stdout);
    }
  };
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < arguments.threads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  const auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf(
      "%llu seeds, %llu failed: %llu faults, %llu tables, %llu requests (%llu answered, "
      "%llu ended with an error), %llu chunks sealed, %llu lost with all their holders, "
      "%llu events\n",
      number(arguments.seeds), number(failures), number(sum.faults), number(sum.tables),
      number(sum.requests), number(sum.answers), number(sum.failed), number(sum.sealed),
      number(sum.lost), number(sum.events));
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace latentd::sim

int main(int argc, char** argv) {
  latentd::sim::Arguments arguments;
  if (!latentd::sim::Parse(argc, argv, arguments)) {
    std::fprintf(stderr,
                 "usage: simulate [--seeds N] [--from N] [--threads N] [--seed N] [--verbose]\n");
    return 2;
  }
  return latentd::sim::Main(arguments);
}
