// How a cluster's table goes from one epoch to the next while nodes come, go and copy: who answers
// for a slot changes only when the bytes are where the answer would come from.
//
//     desired holders   what BalanceHolders says (routing/balanced_holders.h)
//     holders           those of the table before whose memory still lives, but for who has missed a
//                       write, and joining nodes that have said that they have everything
//     joining           desired, and not holders yet
//
// A holder that is no longer desired is let go once every desired node holds the slot. If no holder
// is left, what the slot held is gone: it begins anew, empty, with another generation. So a slot
// keeps its generation exactly as long as what was acknowledged to be published there can be had.
//
// Pure functions; any thread. The same input gives the same table on every machine.
#ifndef LATENTD_ROUTING_PLACEMENT_H_
#define LATENTD_ROUTING_PLACEMENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "routing/routing_table.h"

namespace latentd {

// Whether a joining node has said, of the memory that it has now, that it has everything that the
// slot's holders had, and has been given what came since it was `placed` so. What it said of an
// earlier placement does not count. `node` is an index into PlacementInput::nodes.
using InSync = std::function<bool(NodeIndex node, Slot slot, Epoch placed)>;

// The newest placement of the slot under which a holder acknowledged what the node has not taken;
// nothing if there is no such word. A holder that has missed something joins the slot anew, unless
// all holders have; a joining node that has missed something of the present placement, and says
// that it has everything, has to see again. Either way the slot is placed anew.
using Missed = std::function<std::optional<Epoch>(NodeIndex node, Slot slot)>;

struct PlacementInput {
  // Those that live, with the generation of the memory that they have now. A node of the table
  // before that is missing here, or is kDown, or has another generation, holds nothing any more.
  std::vector<NodeInfo> nodes;
  uint32_t replicas = 1;
  InSync in_sync;
  Missed missed;             // may be null: nobody has
  uint32_t block_slots = 1;  // see BalanceHolders
  // The table has no lower epoch than this: others may know one that `previous` does not count.
  Epoch least_epoch{};
};

// The table that follows `previous` (null: there is none, and nobody holds anything yet), with the
// next epoch, or `previous` itself if nothing would change and its epoch is not too low. Nodes of
// kDown that are in `input.nodes` stay in the table and hold nothing.
//
// INVALID_ARGUMENT: what BalanceHolders or RoutingTable::Create refuse.
// FAILED_PRECONDITION: no node can hold slots.
absl::StatusOr<std::shared_ptr<const RoutingTable>> NextTable(
    std::shared_ptr<const RoutingTable> previous, PlacementInput input);

// What a table still lacks.
struct PlacementProgress {
  uint64_t joining = 0;   // (slot, joining node) pairs
  uint32_t degraded = 0;  // slots with fewer holders than `replicas`
  uint32_t moving = 0;    // slots with joining nodes
};
PlacementProgress ProgressOf(const RoutingTable& table, uint32_t replicas);

}  // namespace latentd

#endif  // LATENTD_ROUTING_PLACEMENT_H_
