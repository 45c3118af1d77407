// What a lane needs to know at start. Plain values; the process makes them from the configuration.
#ifndef LATENTD_DAEMON_LANE_LANE_OPTIONS_H_
#define LATENTD_DAEMON_LANE_LANE_OPTIONS_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kernels/mla.h"
#include "routing/ids.h"
#include "routing/layout.h"

namespace latentd {

class ReplicaSink;
class ServingFence;

enum class IdlePolicy { kPoll, kSleep, kAdaptive };

// Bounds on what is in flight and on what one request may be. Beyond one of them:
// RESOURCE_EXHAUSTED at once, with a retry hint where waiting helps. Bytes of a request in flight
// are its payload's and its reply's payload's together.
struct LaneLimits {
  uint32_t inflight_per_session = 64;
  uint64_t inflight_bytes_per_session = uint64_t{256} << 20;
  uint32_t inflight = 4096;
  uint64_t inflight_bytes = uint64_t{1} << 30;
  uint32_t chunks_per_request = 160;
  uint32_t rows_per_request = 16384;
  // Of an ATTEND: its rows, each times the tokens that it sees. A CPU core does 50 million a second.
  uint64_t work_per_request = uint64_t{1} << 27;
  uint64_t payload_bytes_per_request = uint64_t{64} << 20;
  // Records are checked, copied and hashed in one turn of the lane, in which nobody else is answered:
  // some milliseconds for so many.
  uint64_t publish_bytes_per_request = uint64_t{16} << 20;
  // Pages of open chunks: those are never evicted.
  uint64_t open_bytes_per_session = std::numeric_limits<uint64_t>::max();
  uint32_t sessions = 1024;
  uint32_t chunks = 1 << 20;  // in the lane's store
};

struct LaneOptions {
  uint32_t index = 0;
  NodeId node_id;
  Generation generation{};
  Layout layout;

  std::string device = "cpu";
  uint64_t cache_bytes = 0;
  int threads = 0;        // helper threads of the CPU backend, besides the lane's own
  std::vector<int> cpus;  // pin the lane thread (and helpers) to these; empty = not pinned
  // cache_bytes of every lane of the node, in lane order: which of the node's slots are this
  // lane's.
  std::vector<uint64_t> all_lane_cache_bytes;

  // Above this used share of pages, unpinned sealed chunks are evicted down to the other.
  double high_watermark = 0.95;
  double low_watermark = 0.90;
  absl::Duration default_lease = absl::Minutes(1);  // when PIN names none
  absl::Duration max_lease = absl::Minutes(10);

  IdlePolicy idle = IdlePolicy::kAdaptive;
  absl::Duration spin = absl::Microseconds(50);  // adaptive: poll this long before sleeping

  absl::Duration ping_after = absl::Seconds(1);  // a silent peer is asked ...
  absl::Duration dead_after = absl::Seconds(5);  // ... and given up

  // Who gets to the slot's other nodes what this lane takes as its primary; null: nobody. It must
  // outlive the lane.
  ReplicaSink* replica_sink = nullptr;
  // Requesters hear of a PUBLISH or SEAL once every node of the slot has it; false: once this one
  // has.
  bool acks_all = true;
  absl::Duration forward_patience = absl::Seconds(5);  // for a node that does not take it

  // While it is closed, nothing about chunks is answered; null: always open. It must outlive the
  // lane.
  const ServingFence* fence = nullptr;

  // Chunks of a slot that has gone elsewhere are kept so long: it may come back.
  absl::Duration slot_grace = absl::Seconds(2);

  // Sealed chunks are read again and compared with their checksums at this rate while the lane has
  // nothing else to do, and at a small one while it has; 0: never.
  uint64_t scrub_bytes_per_s = 0;
  absl::Duration scrub_pass_every =
      absl::Minutes(10);  // at most so often each of them; 0: on and on

  LaneLimits limits;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_LANE_OPTIONS_H_
