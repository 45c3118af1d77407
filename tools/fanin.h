// Many requesters, each with a connection of its own and one query in flight, on one holder's chunk:
// what each waits and how many are answered, measured and predicted. Blocks; `interrupted`
// is called by threads of its own.
#ifndef LATENTD_TOOLS_FANIN_H_
#define LATENTD_TOOLS_FANIN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tools/calibration.h"
#include "tools/statistics.h"

namespace latentd {

struct FaninOptions {
  CalibrationOptions fit;
  uint32_t most_requesters = 64;
  uint32_t rows = 16;
  uint32_t tokens = 2048;
  uint32_t requests = 200;  // of each number of requesters, all together, at least one each
  uint32_t warmup = 50;
  uint32_t rounds = 4;   // of the calibration that comes first
  uint32_t threads = 1;  // that the requesters are dealt out to
  int local_threads = 1;
  std::function<absl::StatusOr<std::unique_ptr<Client>>()> connect;
  std::function<void(const std::string&)> progress = [](const std::string&) {};
  std::function<bool()> interrupted = [] { return false; };
  absl::Duration timeout = absl::Seconds(10);
};

struct FaninPoint {
  uint32_t requesters = 0;
  Percentiles latency;  // µs, as the callers see it
  double per_second = 0;
  double mean_batch_rows = 0;
  double queue_us = 0;         // that answers report: the median
  double predicted_us = 0;     // from the calibration alone (predictions.h)
  double from_reports_us = 0;  // a route's terms with the queue that the answers reported
  double predicted_per_second() const { return 1e6 * requesters / predicted_us; }
};

struct FaninReport {
  uint32_t rows = 0;
  uint32_t tokens = 0;
  uint32_t threads = 1;
  std::string transports;
  std::vector<FaninPoint> points;  // 1, 2, 4 ... requesters
};

// REQUIRES: options.connect. CANCELLED when interrupted.
absl::StatusOr<FaninReport> MeasureFanin(const FaninOptions& options);

}  // namespace latentd

#endif  // LATENTD_TOOLS_FANIN_H_
