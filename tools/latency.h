// Measuring routed attention over random data, and the wire alone with messages of the same sizes.
#ifndef LATENTD_TOOLS_LATENCY_H_
#define LATENTD_TOOLS_LATENCY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "tools/statistics.h"

namespace latentd {

struct LoadOptions {
  uint32_t heads = 128;
  uint32_t query_tokens = 1;
  uint32_t concurrency = 1;  // requests in flight
  uint64_t requests = 1000;
  absl::Duration duration = absl::Seconds(5);  // stops earlier than `requests` when this is over
  uint64_t warmup = 50;                        // requests before the first that counts
  absl::Duration timeout = absl::Seconds(10);
  std::function<void(const std::string&)> progress = [](const std::string&) {};
};

struct AttendLoadOptions : LoadOptions {
  uint32_t tokens = 2048;        // that a query attends
  uint32_t holders = 1;          // nodes that they are spread over
  uint32_t chunk_tokens = 2048;  // at most, in one chunk
};

struct AttendLoadReport {
  uint32_t chunks = 0;
  uint64_t requests = 0;
  double seconds = 0;
  uint64_t rows = 0;  // answered, of all requests
  // In microseconds. `total`: as the caller sees it. The rest is of the holder that took longest in
  // each request: `beyond` is its round trip without its queue and compute.
  Percentiles total, rtt, queue, compute, beyond;
  double mean_batch_rows = 0;
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
};

absl::StatusOr<AttendLoadReport> MeasureAttend(Client& client, const AttendLoadOptions& options);

struct EchoReport {
  Holder holder;
  std::string transports;
  uint64_t sent_bytes = 0;      // payload of one request
  uint64_t received_bytes = 0;  // and of one reply
  uint64_t requests = 0;
  double seconds = 0;
  Percentiles rtt;  // microseconds
};

// Messages as large as an ATTEND of these heads and query tokens, to lane 0 of every node.
absl::StatusOr<std::vector<EchoReport>> MeasureWire(Client& client, const LoadOptions& options);

}  // namespace latentd

#endif  // LATENTD_TOOLS_LATENCY_H_
