// What a table's nodes lack for the copies that are asked for: too few of them, or one so large that
// the others have no room for the other copies of what it could hold.
//
// A pure function; any thread.
#ifndef LATENTD_DAEMON_MEMBERSHIP_CAPACITY_TROUBLES_H_
#define LATENTD_DAEMON_MEMBERSHIP_CAPACITY_TROUBLES_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "routing/routing_table.h"

namespace latentd {

// A sentence for each, naming the node and the bytes. A node of which less than a tenth is of no use
// is not worth one.
std::vector<std::string> CapacityTroubles(std::span<const NodeInfo> nodes, uint32_t replicas);

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_CAPACITY_TROUBLES_H_
