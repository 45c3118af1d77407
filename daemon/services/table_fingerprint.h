// One number for what a routing table says of slots and holders, so that nodes can tell in a word
// whether they follow the same table: epoch, nodes with their addresses, and who holds what. Not
// what a node of a static list knows only of itself: its generation, capacity and state. The order
// in which nodes are listed does not matter.
//
// `TableFingerprint` is pure; `TableFingerprints` remembers the last table's and is for any thread.
#ifndef LATENTD_DAEMON_SERVICES_TABLE_FINGERPRINT_H_
#define LATENTD_DAEMON_SERVICES_TABLE_FINGERPRINT_H_

#include <cstdint>
#include <memory>
#include <mutex>

#include "routing/routing_table.h"

namespace latentd {

// Never 0.
uint64_t TableFingerprint(const RoutingTable& table);

class TableFingerprints {
 public:
  // 0 for null.
  uint64_t Of(const std::shared_ptr<const RoutingTable>& table);

 private:
  std::mutex mutex_;
  std::shared_ptr<const RoutingTable> table_;
  uint64_t fingerprint_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_TABLE_FINGERPRINT_H_
