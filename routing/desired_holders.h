// `DesiredHolders` says which nodes should hold which slot, whatever they hold now.
//
// Two make it: `DesiredHolders::Choose`, plain rendezvous hashing, for whoever must come to the same
// answer from a list of nodes alone; and `BalanceHolders` (routing/balanced_holders.h), which goes
// by the table before and keeps loads within bounds.
//
// Immutable; any thread.
#ifndef LATENTD_ROUTING_DESIRED_HOLDERS_H_
#define LATENTD_ROUTING_DESIRED_HOLDERS_H_

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "routing/routing_table.h"

namespace latentd {

// Indices of the active nodes of non-zero capacity; only if there are none, of the draining ones.
//
// INVALID_ARGUMENT: replicas is 0 or above kMaxReplicas, or there are more than kMaxNodes nodes.
// FAILED_PRECONDITION: no node is eligible.
absl::StatusOr<std::vector<NodeIndex>> EligibleNodes(std::span<const NodeInfo> nodes,
                                                     uint32_t replicas);

class DesiredHolders {
 public:
  // Every slot gets min(replicas, eligible nodes) distinct holders, those of the best bids
  // (routing/rendezvous.h), best first. The nodes' order does not matter to the choice, and the same
  // input gives the same answer on every machine.
  //
  // Errors: those of EligibleNodes.
  static absl::StatusOr<DesiredHolders> Choose(std::span<const NodeInfo> nodes, uint32_t replicas);

  // REQUIRES: `block_slots` divides kSlotCount, and `holders` has `per_slot` nodes for each block.
  DesiredHolders(uint32_t per_slot, uint32_t block_slots, std::vector<NodeIndex> holders)
      : per_slot_(per_slot), block_slots_(block_slots), holders_(std::move(holders)) {}

  // Indices into the nodes, primary first.
  std::span<const NodeIndex> Of(Slot slot) const {
    return {holders_.data() + size_t{ToInt(slot) / block_slots_} * per_slot_, per_slot_};
  }
  uint32_t per_slot() const { return per_slot_; }
  // So many consecutive slots have the same holders.
  uint32_t block_slots() const { return block_slots_; }

 private:
  uint32_t per_slot_;
  uint32_t block_slots_;
  std::vector<NodeIndex> holders_;  // [kSlotCount / block_slots_][per_slot_]
};

}  // namespace latentd

#endif  // LATENTD_ROUTING_DESIRED_HOLDERS_H_
