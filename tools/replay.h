// Replaying a trace: its records are published as chunks spread over nodes, every recorded query of
// every step and layer is routed to them, and the answers are compared with the recorded ones -
// with fp8 records, with the fp64 reference over the same quantised records.
//
// Queries go twice: step by step, as a decoding frontend sends them, and all steps of a layer at
// once as a causal group, as a verifying or prefilling one does.
#ifndef LATENTD_TOOLS_REPLAY_H_
#define LATENTD_TOOLS_REPLAY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "kernels/mla.h"
#include "tools/statistics.h"
#include "tools/trace.h"

namespace latentd {

struct ReplayOptions {
  uint32_t chunk_tokens = 128;
  uint32_t holders = 0;  // nodes that the chunks are spread over; 0: all
  std::string device;     // whose memory queries and answers are in: "cuda:N"; empty: the host's
  OutFormat out_format = OutFormat::kBf16;
  absl::Duration timeout = absl::Seconds(10);
  std::function<void(const std::string&)> progress = [](const std::string&) {};
  std::function<bool()> interrupted = [] { return false; };  // ends it with CANCELLED
};

struct ReplayReport {
  std::string trace;
  RecordFormat record = RecordFormat::kBf16;
  uint32_t nodes = 0;
  uint32_t chunks = 0;
  bool sealed = false;
  uint32_t heads = 0;
  uint64_t queries = 0;  // each step's, and one of all steps for each layer
  WorstError error;
  std::vector<double> latency_us;  // of the step-by-step queries, blocking
  uint64_t routed_bytes = 0;       // of those queries, both ways
  uint64_t cache_bytes = 0;        // what fetching the trace's records once would have moved
  uint64_t cache_bytes_each = 0;   // and fetching what each step sees for that step
  uint64_t published_bytes = 0;

  bool right() const { return error.rows > 0 && error.wrong == 0; }
};

// INVALID_ARGUMENT if the trace's geometry or layers do not fit the cluster's layout. Chunks are
// sealed if the trace has a record for every layer of the layout, else they stay open and go with
// the client's session.
absl::StatusOr<ReplayReport> Replay(Client& client, const Trace& trace,
                                    const ReplayOptions& options);

}  // namespace latentd

#endif  // LATENTD_TOOLS_REPLAY_H_
