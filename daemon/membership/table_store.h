// How a routing table is kept in etcd: a snapshot in parts, and a delta for each epoch since, all of
// them named by the entry table/head (proto/latentd/v1/membership.proto). A reader may start at any
// time; a writer replaces what was there in transactions of bounded size, the last of which moves
// the head.
//
// Pure functions; any thread.
#ifndef LATENTD_DAEMON_MEMBERSHIP_TABLE_STORE_H_
#define LATENTD_DAEMON_MEMBERSHIP_TABLE_STORE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/etcd/etcd.h"
#include "daemon/membership/cluster_keys.h"
#include "daemon/membership/etcd_mirror.h"
#include "daemon/membership/membership.h"
#include "proto/latentd/v1/membership.pb.h"
#include "routing/routing_table.h"

namespace latentd {

// A table and what it was made from: tables of one epoch but of different histories differ in
// `chain`.
struct StoredTable {
  TablePtr table;  // null: none yet
  uint64_t chain = 0;

  Epoch epoch() const { return table == nullptr ? Epoch{0} : table->epoch(); }
};

// NOT_FOUND: no table has been stored. UNIMPLEMENTED: it needs features that this build does not
// have. DATA_LOSS: the head cannot be read.
absl::StatusOr<v1::TableHead> ReadHead(const EtcdEntries& entries, const ClusterKeys& keys);

// The table that `entries`, all of table/, say, quickly if it follows `known`. Besides ReadHead's:
// FAILED_PRECONDITION if it is not newer than `known` and not `known`; DATA_LOSS.
absl::StatusOr<StoredTable> ReadTable(const EtcdEntries& entries, const ClusterKeys& keys,
                                      const StoredTable& known);

struct TableWrite {
  std::vector<EtcdTransaction> transactions;  // in this order, each only if the one before was done
  StoredTable table;                          // what is stored then
};

// Puts `next` in the place of what `entries` say. `head` is the new head but for the fields that
// say where the table is. `before`: what is stored now; null or unrelated: a snapshot is written.
// `guards` come in front of those on the head.
TableWrite WriteTable(const EtcdEntries& entries, const ClusterKeys& keys,
                      const StoredTable& before, TablePtr next, v1::TableHead head,
                      const std::vector<EtcdGuard>& guards);

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_TABLE_STORE_H_
