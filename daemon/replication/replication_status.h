// How far a daemon is with the chunks that it passes on and copies. Values; any thread.
#ifndef LATENTD_DAEMON_REPLICATION_REPLICATION_STATUS_H_
#define LATENTD_DAEMON_REPLICATION_REPLICATION_STATUS_H_

#include <cstdint>

#include "absl/time/time.h"
#include "daemon/replication/slot_sync.h"
#include "daemon/replication/standing.h"

namespace latentd {

// What a primary passes on.
struct ForwardStats {
  uint64_t under_way = 0;
  uint64_t bytes_under_way = 0;
  uint64_t done = 0;  // since the start
  uint64_t failed = 0;
  uint64_t retries = 0;
  uint64_t resupplied = 0;  // chunks that a node got whole with their SEAL
  absl::Duration oldest;    // age of the oldest write under way
};

struct ReplicationStatus {
  SlotSyncProgress sync;         // some tenths of a second old while it goes on
  double copied_per_second = 0;  // bytes, lately
  ForwardStats forward;
};

struct ReplicationSnapshot {
  Standing standing;         // in the newest table; nothing before the first
  ReplicationStatus status;  // nothing where every chunk has one holder for ever
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_REPLICATION_STATUS_H_
