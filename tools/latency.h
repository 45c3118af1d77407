// Measuring routed attention over random data, and the wire alone with messages of the same sizes.
#ifndef LATENTD_TOOLS_LATENCY_H_
#define LATENTD_TOOLS_LATENCY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"
#include "tools/load_options.h"
#include "tools/statistics.h"

namespace latentd {

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
  absl::Status stopped;  // OK, or why it ended before it was to: the rest is what was measured
};

// An error if nothing was measured; INVALID_ARGUMENT for a load that does not fit (load_options.h).
absl::StatusOr<AttendLoadReport> MeasureAttend(Client& client, const AttendLoadOptions& options);

struct EchoReport {
  Holder holder;
  std::string transports;
  uint64_t sent_bytes = 0;      // payload of one request
  uint64_t received_bytes = 0;  // and of one reply
  uint64_t requests = 0;
  double seconds = 0;
  Percentiles rtt;       // microseconds
  absl::Status stopped;  // as above; nodes behind it were not measured
};

// Messages as large as an ATTEND of these heads and query tokens, to lane 0 of every node. Errors as
// above.
absl::StatusOr<std::vector<EchoReport>> MeasureWire(Client& client, const LoadOptions& options);

}  // namespace latentd

#endif  // LATENTD_TOOLS_LATENCY_H_
