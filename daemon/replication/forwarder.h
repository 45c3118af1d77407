// `Forwarder` is the `ReplicaSink` of a daemon: it gets what this node took as a slot's primary to
// the slot's other nodes.
//
// Order: of one chunk and one node, a SEAL or DROP goes out when everything before it has been
// answered, and what comes after waits for its answer. PUBLISHes between two of those go out at
// once: their records do not depend on each other.
//
// What becomes of a node's answer, inside the write's deadline:
//     OK                                            done
//     WRONG_EPOCH, NOT_HOLDER: its table is older   again, after a moment
//     WRONG_EPOCH: its table is newer               again by that table, once this node has it too
//     UNAVAILABLE, RESOURCE_EXHAUSTED               again, less and less often
//     SEAL: NOT_FOUND, FAILED_PRECONDITION          it gets all records of the chunk, then the SEAL
//     PUBLISH: ALREADY_EXISTS                       its open chunk is dropped: a DROP was lost. It gets
//                                                   all that is here of the chunk, then the PUBLISH
//     anything else                                 the write has failed
// Whatever it says, a node that the newest table no longer gives the slot need not have it: those
// that it names instead, and that were not there before, fetch from this node or one that has it.
//
// Thread rule: ReplicaSink's methods and stats: any thread. The rest: the PeerThread's.
#ifndef LATENTD_DAEMON_REPLICATION_FORWARDER_H_
#define LATENTD_DAEMON_REPLICATION_FORWARDER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/slices.h"
#include "daemon/lane/replica_sink.h"
#include "daemon/membership/membership.h"
#include "daemon/replication/peer_thread.h"
#include "daemon/replication/replication_status.h"
#include "routing/layout.h"

namespace latentd {

struct ForwarderOptions {
  NodeId self;
  Layout layout;
  uint32_t max_writes = 65536;                  // at a time; more are refused
  uint64_t max_bytes = uint64_t{4} << 30;       // of records in them
  uint64_t resupply_bytes = uint64_t{8} << 20;  // of one message when a chunk is sent whole
};

class Forwarder final : public ReplicaSink {
 public:
  using Quarantined = std::function<void(const ChunkId&, uint32_t tokens, uint64_t checksum)>;
  using Missed = std::function<void(MissedWrite)>;

  // `thread` must outlive this, and be stopped before it goes. Both run on the thread; `missed` for
  // every node that did not take what was acknowledged, or may have lost what it had of the chunk.
  Forwarder(ForwarderOptions options, PeerThread* thread, Quarantined quarantined, Missed missed);

  void Forward(ReplicaWrite write, std::function<void(absl::Status)> done) override;
  void OnQuarantined(uint32_t lane, const ChunkId& chunk, uint32_t tokens,
                     uint64_t checksum) override;
  void EndBy(absl::Time deadline) override;
  ForwardStats stats() const;

  void SetTable(TablePtr table);
  // Everything that waits ends with UNAVAILABLE; what is under way ends with the client's calls.
  void StopWaiting();

 private:
  // A write and the nodes that still lack it.
  struct Write {
    ReplicaWrite write;
    std::function<void(absl::Status)> done;
    size_t nodes_left = 0;
    absl::Status failed;  // first failure
    absl::Time start;
  };
  using WritePtr = std::shared_ptr<Write>;
  // One write on its way to one node.
  struct Attempt {
    WritePtr write;
    NodeId node;
    WriteEpochs sent;
    uint32_t tries = 0;
    bool resupplied = false;
    bool anew = false;  // the node may have lost what it had: it gets the chunk whole first
  };
  using AttemptPtr = std::shared_ptr<Attempt>;
  // Writes of one chunk for one node.
  struct Stream {
    std::deque<AttemptPtr> waiting;
    uint32_t under_way = 0;
    bool barrier = false;            // a SEAL or DROP is under way
    AttemptPtr renewing;             // has the node begin the chunk anew
    std::vector<AttemptPtr> behind;  // that wait for it
  };
  using StreamKey = std::pair<ChunkId, NodeId>;
  struct Resupply {
    std::vector<Slice> slices;
    size_t next = 0;
  };

  void Begin(WritePtr write);
  void Pump(const StreamKey& key);
  void Send(const AttemptPtr& attempt);
  void Answered(const AttemptPtr& attempt, const PeerAnswer& answer);
  void Again(const AttemptPtr& attempt, absl::Duration delay, const absl::Status& why);
  // Drops the node's open chunk and sends it what is here, one attempt of a stream at a time.
  void Renew(const AttemptPtr& attempt);
  void SendAllHere(const AttemptPtr& attempt);
  // The attempt renews no more, whatever came of it.
  void EndRenewal(const AttemptPtr& attempt);
  void SendWhole(const AttemptPtr& attempt, std::shared_ptr<Resupply> resupply);
  void Ended(const AttemptPtr& attempt, absl::Status status);
  void TellMissed(const Attempt& attempt);
  void Finish(const WritePtr& write);
  // Whether the newest table still gives the slot to the node.
  bool StillGives(const ChunkId& chunk, const NodeId& node) const;
  WriteEpochs EpochsOf(const ReplicaWrite& write) const;
  absl::Time DeadlineOf(const ReplicaWrite& write) const;

  const ForwarderOptions options_;
  PeerThread* const thread_;
  const Quarantined quarantined_;
  const Missed missed_;

  TablePtr table_;
  bool stopping_ = false;
  absl::Time end_by_ = absl::InfiniteFuture();
  std::map<StreamKey, Stream> streams_;
  std::set<AttemptPtr> pausing_;  // until their timer
  std::multiset<absl::Time> starts_;

  std::atomic<uint64_t> writes_ = 0;
  std::atomic<uint64_t> bytes_under_way_ = 0;
  std::atomic<uint64_t> done_ = 0;
  std::atomic<uint64_t> failed_ = 0;
  std::atomic<uint64_t> retries_ = 0;
  std::atomic<uint64_t> resupplied_ = 0;
  std::atomic<int64_t> oldest_ns_ = 0;  // Unix nanoseconds of the thread's clock; 0: none
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_FORWARDER_H_
