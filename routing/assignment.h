// Who should hold which slot: weighted rendezvous hashing. Every (slot, node) pair has a fixed
// pseudo-random number; scaled by the node's weight, the R best nodes of a slot hold it, the best
// one as primary. So a node that joins only takes slots, one that leaves only gives its own away,
// and nobody else's slots move.
//
// Pure functions; any thread. The same input gives the same table on every machine: only integers
// are used.
#ifndef LATENTD_ROUTING_ASSIGNMENT_H_
#define LATENTD_ROUTING_ASSIGNMENT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "routing/routing_table.h"

namespace latentd {

// Makes the table of `epoch` that gives every slot min(replicas, eligible nodes) distinct holders.
// Eligible are the active nodes of non-zero capacity; only if there are none, the draining ones.
// Node order does not matter to the choice and is kept in the table.
//
// A slot keeps its generation from `previous` (may be null) as long as the same nodes with the same
// memory generations hold it, in whatever order; else its generation is the number of `epoch`.
//
// INVALID_ARGUMENT: replicas is 0 or above kMaxReplicas, `epoch` is not above previous->epoch(), or
// nodes that RoutingTable::Create refuses. FAILED_PRECONDITION: no node is eligible.
absl::StatusOr<std::shared_ptr<const RoutingTable>> AssignSlots(
    Epoch epoch, std::vector<NodeInfo> nodes, uint32_t replicas,
    const RoutingTable* previous = nullptr);

}  // namespace latentd

#endif  // LATENTD_ROUTING_ASSIGNMENT_H_
