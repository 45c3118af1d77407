// Times fetches into a client's own cache: tokens that lie together against as many that were
// selected from a longer context, on one holder and on several. One thread; blocks.
#ifndef LATENTD_TOOLS_FETCH_BENCH_H_
#define LATENTD_TOOLS_FETCH_BENCH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "tools/statistics.h"

namespace latentd {

struct FetchBenchOptions {
  uint32_t tokens = 2048;    // of each fetch
  uint32_t context = 16384;  // that they are selected from
  uint32_t layers = 0;       // of each token; 0: all that the layout has
  uint32_t holders = 1;      // nodes that the context is spread over, at most
  uint32_t requests = 20;    // fetches of each kind that count
  uint32_t warmup = 3;
  std::function<void(const std::string&)> progress = [](const std::string&) {};
  std::function<bool()> interrupted = [] { return false; };
  absl::Duration timeout = absl::Seconds(10);
  // Another client of the cluster, with a cache of so many bytes.
  std::function<absl::StatusOr<std::unique_ptr<Client>>(uint64_t cache_bytes)> connect;
};

struct FetchTiming {
  std::string what;
  uint32_t holders = 1;
  uint64_t bytes = 0;     // of records
  uint64_t requests = 0;  // of one fetch
  Percentiles us;

  double GigabytesPerSecond() const { return static_cast<double>(bytes) / us.p50 / 1e3; }
};

struct FetchReport {
  Layout layout;
  std::string transports;
  uint64_t cache_bytes = 0;
  // The first is the contiguous fetch of one holder into a caller's buffer, the second the same
  // into the cache: what the others are set against.
  std::vector<FetchTiming> timings;
};

// INVALID_ARGUMENT naming the flag: more tokens than context, or more memory than a measurement may
// take. FAILED_PRECONDITION: fewer nodes. CANCELLED when interrupted.
absl::StatusOr<FetchReport> MeasureFetch(const FetchBenchOptions& options);

std::string FetchText(const FetchReport& report);
nlohmann::json FetchJson(const FetchReport& report);

}  // namespace latentd

#endif  // LATENTD_TOOLS_FETCH_BENCH_H_
