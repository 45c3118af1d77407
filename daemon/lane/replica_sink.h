// `ReplicaSink` is where a lane hands what it took as a slot's primary, so that the slot's other
// holders, and those that join, get it too. The lane answers its requester once they have it (or at
// once, where the configuration says that the primary's copy is enough).
//
// Thread rule: both are called on a lane's thread and must not block; `done` runs once, on any
// thread, and must be short. It runs soon after the write's deadline at the latest, whatever
// happens: a lane that stops waits for it, because the records are the lane's.
#ifndef LATENTD_DAEMON_LANE_REPLICA_SINK_H_
#define LATENTD_DAEMON_LANE_REPLICA_SINK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/store/record_range.h"
#include "routing/ids.h"

namespace latentd {

// One PUBLISH, SEAL or DROP, as the primary took it.
struct ReplicaWrite {
  enum class Kind : uint8_t { kPublish, kSeal, kDrop };

  Kind kind = Kind::kPublish;
  ChunkId chunk;
  RecordRange range;                   // PUBLISH
  std::span<const std::byte> records;  // PUBLISH: host memory, valid until `done`
  uint32_t tokens = 0;                 // SEAL
  uint64_t checksum = 0;               // SEAL: transport/record_checksum.h
  Epoch epoch{};                       // of the primary's table
  Epoch placed{};                      // of the slot in that table
  std::vector<NodeId> nodes;           // that must have it: holders and joining nodes, not itself
  absl::Time deadline;                 // of the steady clock
  // Whoever published it has been told that it is safe: a node that does not take it lacks something.
  bool acknowledged = false;
};

class ReplicaSink {
 public:
  virtual ~ReplicaSink() = default;
  // OK once every node has it. Otherwise the first failure, which names the node: UNAVAILABLE and
  // DEADLINE_EXCEEDED for one that does not answer, WRONG_EPOCH for one that goes by a newer table.
  // Writes of one chunk reach each node in the order of the calls.
  virtual void Forward(ReplicaWrite write, std::function<void(absl::Status)> done) = 0;

  // The lane stops: what it forwarded ends by `deadline`, of the steady clock, as it would by its own.
  virtual void EndBy(absl::Time deadline) { (void)deadline; }

  // A sealed chunk of this lane no longer has the bytes that it was sealed with. It answers DATA_LOSS
  // there until it is published and sealed anew (Lane::PublishLocal, SealLocal), with the records of
  // another holder.
  virtual void OnQuarantined(uint32_t lane, const ChunkId& chunk, uint32_t tokens,
                             uint64_t checksum) {
    (void)lane;
    (void)chunk;
    (void)tokens;
    (void)checksum;
  }
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_REPLICA_SINK_H_
