// What the benchmarks of a cluster have in common: their flags, sealed chunks with questions about
// them, what a window of requests comes to, and how it is told.
//
// Values and plain functions; one thread. Errors are std::runtime_error.
#ifndef LATENTD_TESTS_CLUSTER_BENCHMARKS_BENCH_WORLD_H_
#define LATENTD_TESTS_CLUSTER_BENCHMARKS_BENCH_WORLD_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tests/cluster/benchmarks/bench_cluster.h"
#include "tests/cluster/benchmarks/paced_load.h"
#include "tests/cluster/load.h"

namespace latentd::testing {

struct BenchFlags {
  BenchClusterOptions cluster;
  double lease_s = 3;
  int chunks = 48;
  int tokens = 512;  // of a chunk
  int heads = 16;    // of a question
  int requesters = 4;
  double share = 0.3;  // of what the cluster can answer
  double rate = 0;     // requests a second, instead of a share
  double timeout_s = 2;
  int rounds = 3;
  double window_s = 8;
  std::string json;
};
// Those that say what cluster there is and what it is asked, and --json.
void AddClusterFlags(CLI::App& app, BenchFlags* flags);
// Those of a load of a fixed rate.
void AddLoadFlags(CLI::App& app, BenchFlags* flags);

// Questions, each about one chunk or two, with their answers.
struct BenchData {
  std::deque<ChunkData> chunks;
  std::vector<Question> questions;
};
BenchData MakeData(const BenchFlags& flags, int chunks_per_question);
void Publish(const BenchData& data, const ClientOptions& client);

// What the requesters reach when each asks one after the other, and the rate that the flags ask for.
struct Pace {
  double capacity = 0;  // requests a second of a closed loop
  double p50_us = 0;    // of these
  double rate = 0;
};
Pace MeasurePace(const BenchFlags& flags, const BenchData& data, const ClientOptions& client);
PacedLoadOptions LoadOptions(const BenchFlags& flags, double rate);
// "3 nodes, 2 holders of each chunk; 900 requests/s, 30% of ...".
std::string Describe(const Pace& pace, const BenchCluster& cluster);

// Requests that were due in [from, to).
struct Window {
  uint64_t requests = 0;
  uint64_t wrong = 0;
  uint64_t failed = 0;
  uint64_t retried = 0;
  uint64_t late = 0;  // ended after their deadline
  std::map<std::string, uint64_t> errors;
  std::string first_error;
  double p50_us = 0;  // of all, failed ones as well
  double p99_us = 0;
  double longest_us = 0;
};
bool Within(const Sample& sample, int64_t from_ns, int64_t to_ns);
Window Summarise(std::span<const Sample> samples, absl::Duration timeout,
                 const std::function<bool(const Sample&)>& counts);
Window Summarise(std::span<const Sample> samples, absl::Duration timeout, int64_t from_ns,
                 int64_t to_ns = std::numeric_limits<int64_t>::max());
nlohmann::json ToJson(const Window& window);
// "12 UNAVAILABLE, 1 DEADLINE_EXCEEDED", "none".
std::string ErrorsOf(const Window& window);

// Whether requests waited for each other before anything was done to the cluster: then the ratios
// say how overloaded the machine is, and nothing else.
bool Saturated(const Window& before, const Pace& pace);

inline constexpr char kSaturated[] =
    "SATURATED: requests waited for each other before anything was done; the machine is busy or "
    "the "
    "share too large, and the ratios say nothing\n";

double Median(std::vector<double> values);

// Says on standard error what is done now; nothing waits in a pipe.
void Say(const std::string& what);
// To the flags' file, if they name one.
void WriteJson(const BenchFlags& flags, const nlohmann::json& report);
// main() of all of them: parses, runs, tells what went wrong. `run` returns the exit code.
int BenchMain(CLI::App& app, int argc, char** argv, BenchFlags* flags,
              const std::function<int(const BenchFlags&)>& run);

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_BENCHMARKS_BENCH_WORLD_H_
