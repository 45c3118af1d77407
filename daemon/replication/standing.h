// Where a node stands in a table: how many slots are its business, and what the cluster lacks. Pure;
// any thread.
#ifndef LATENTD_DAEMON_REPLICATION_STANDING_H_
#define LATENTD_DAEMON_REPLICATION_STANDING_H_

#include <cstdint>

#include "routing/placement.h"
#include "routing/routing_table.h"

namespace latentd {

struct Standing {
  uint32_t primary = 0;  // slots that the node is first among the holders of
  uint32_t held = 0;     // those, and the others that it holds
  uint32_t joining = 0;
  PlacementProgress cluster;
};

// A node that the table does not have holds nothing. Takes some hundred microseconds.
Standing StandingOf(const RoutingTable& table, const NodeId& node, uint32_t replicas);

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_STANDING_H_
