// `BalanceHolders`: who should hold what, as whoever coordinates a cluster sees it. It follows the
// table before, so that only what must moves, and that is little work:
//
//     a node joins, or can take more   it takes its share from nodes that have more than theirs
//     a node leaves                    its slots go to nodes with room, two drawn at random for each,
//                                      the emptier one taken
//     a node has more than 1.2 x its   it gives away what is above
//     share
//
// A share is by capacity, of all R copies of the slots (routing/fair_shares.h). Primaries are evened
// out the same way, within 1.25 x: that moves no bytes.
//
// The table says all that there is to know of what was desired before: of a slot with J joining
// nodes those and its first R - J holders, of others all holders. So one coordinator goes on where
// another has stopped.
//
// A pure function; any thread. The same input gives the same answer on every machine.
#ifndef LATENTD_ROUTING_BALANCED_HOLDERS_H_
#define LATENTD_ROUTING_BALANCED_HOLDERS_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "routing/desired_holders.h"
#include "routing/routing_table.h"

namespace latentd {

// Every slot gets min(replicas, eligible nodes) distinct holders. Blocks of `block_slots`
// consecutive slots have the same ones: one, but for simulations, to whom few blocks are cheap.
// `previous` may be null. REQUIRES: `block_slots` is a power of two and that of the tables before.
//
// Errors: those of EligibleNodes.
absl::StatusOr<DesiredHolders> BalanceHolders(const RoutingTable* previous,
                                              std::span<const NodeInfo> nodes, uint32_t replicas,
                                              uint32_t block_slots = 1);

}  // namespace latentd

#endif  // LATENTD_ROUTING_BALANCED_HOLDERS_H_
