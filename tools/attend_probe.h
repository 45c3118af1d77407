// `AttendProbe` times single attends of chosen rows, tokens and holders against a running cluster:
// it publishes random records once, one open chunk for each node, and asks for as much of them as a
// measurement wants. One thread; calls block.
#ifndef LATENTD_TOOLS_ATTEND_PROBE_H_
#define LATENTD_TOOLS_ATTEND_PROBE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "tools/query_memory.h"

namespace latentd {

// A softmax scale, of any model: what a query takes does not depend on it.
inline constexpr float kProbeScale = 0.1352337788608801f;

// Of one attend, in µs. All but `total_us` are of the holder that took longest.
struct AttendTiming {
  double total_us = 0;  // as the caller sees it, merged
  double rtt_us = 0;
  double queue_us = 0;
  double compute_us = 0;
};

struct AttendProbeOptions {
  uint32_t holders = 1;      // nodes that get a chunk
  uint32_t most_rows = 0;    // of a query
  uint32_t most_tokens = 0;  // of a chunk
  uint32_t layers = 1;       // that the chunks have
  std::string device;        // whose memory queries and answers are in: "cuda:N"; empty: the host's
  absl::Duration timeout = absl::Seconds(10);
  std::function<bool()> interrupted = [] { return false; };
};

class AttendProbe {
 public:
  // INVALID_ARGUMENT: a query or a chunk that the daemons do not take, by limit. FAILED_PRECONDITION:
  // fewer nodes.
  static absl::StatusOr<AttendProbe> Create(Client& client, const AttendProbeOptions& options);

  // One query of `rows` rows that attends `tokens` tokens at each of `holders` nodes, from node
  // `first` on.
  absl::StatusOr<AttendTiming> Attend(uint32_t rows, uint32_t tokens, uint32_t first,
                                      uint32_t holders);

  uint32_t holders() const { return static_cast<uint32_t>(chunks_.size()); }
  Holder holder(size_t index) const { return {.node = nodes_[index], .lane = 0}; }
  const ChunkId& chunk(size_t index) const { return chunks_[index].id; }
  const std::vector<NodeId>& nodes() const { return nodes_; }
  const AttendProbeOptions& options() const { return options_; }
  Client& client() const { return *client_; }

 private:
  AttendProbe(Client& client, const AttendProbeOptions& options)
      : client_(&client), options_(options) {}

  Client* client_;
  AttendProbeOptions options_;
  std::vector<NodeId> nodes_;
  std::vector<VisibleChunk> chunks_;
  std::unique_ptr<QueryMemory> memory_;
  QueryBuffers buffers_;
};

// Heads of a query of so many rows: the most, up to kMaxHeads, that divide them.
uint32_t HeadsOf(uint32_t rows);

}  // namespace latentd

#endif  // LATENTD_TOOLS_ATTEND_PROBE_H_
