// `Replication` is everything by which this daemon's chunks come to be on other nodes and theirs on
// this one: a thread, what it forwards as a primary, and what it copies of slots that it joins.
//
//     Create -> sink() to the lanes -> Start -> SetTable, as often as there is a new one -> Stop
//
// Any thread, but for Create, Start and Stop, which are their owner's. Stop comes after the lanes
// have stopped: until then they may wait for what they forwarded.
#ifndef LATENTD_DAEMON_REPLICATION_REPLICATION_H_
#define LATENTD_DAEMON_REPLICATION_REPLICATION_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/tls_files.h"
#include "daemon/lane/lane.h"
#include "daemon/membership/membership.h"
#include "daemon/replication/copy_rate.h"
#include "daemon/replication/forwarder.h"
#include "daemon/replication/lane_chunks.h"
#include "daemon/replication/peer_thread.h"
#include "daemon/replication/remote_chunks.h"
#include "daemon/replication/replication_status.h"
#include "daemon/replication/slot_sync.h"
#include "routing/layout.h"

namespace latentd {

struct ReplicationOptions {
  NodeId self;
  Layout layout;
  TlsFiles tls;
  std::vector<std::string> transports;
  CopyOptions copy;
  absl::Duration ping_after = absl::Milliseconds(500);  // of peers that owe an answer
  absl::Duration dead_after = absl::Seconds(2);
};

class Replication {
 public:
  static absl::StatusOr<std::unique_ptr<Replication>> Create(ReplicationOptions options);
  // Stops.
  ~Replication();
  Replication(const Replication&) = delete;
  Replication& operator=(const Replication&) = delete;

  // For LaneOptions::replica_sink. Before Start, writes wait.
  ReplicaSink* sink() { return &forwarder_; }
  // All of the node's lanes, in order; the membership takes the claims. Both must outlive Stop.
  void Start(std::vector<Lane*> lanes, Membership* membership);
  void SetTable(TablePtr table);
  void Stop();

  ReplicationStatus status() const;

 private:
  Replication(ReplicationOptions options, std::unique_ptr<PeerThread> thread);

  // The thread's.
  void TakeTable(const TablePtr& table);
  void Repair(const ChunkId& chunk, uint32_t tokens, uint64_t checksum);
  // Notes how far copying is, again and again while there is any.
  void Note();

  const ReplicationOptions options_;
  const std::unique_ptr<PeerThread> thread_;
  Membership* membership_ = nullptr;
  Forwarder forwarder_;
  RemoteChunks remote_;
  std::unique_ptr<LaneChunks> local_;
  std::unique_ptr<SlotSync> sync_;
  bool noting_ = false;
  absl::Time noted_at_;

  mutable std::mutex mutex_;
  SlotSyncProgress progress_;  // guarded by mutex_
  CopyRate copy_rate_;         // guarded by mutex_
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_REPLICATION_H_
