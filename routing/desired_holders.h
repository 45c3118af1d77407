// `DesiredHolders` says which nodes should hold which slot, whatever they hold now: the R nodes of
// the best bids (routing/rendezvous.h), best first. Pure; the same input gives the same answer on
// every machine.
//
// Immutable; any thread.
#ifndef LATENTD_ROUTING_DESIRED_HOLDERS_H_
#define LATENTD_ROUTING_DESIRED_HOLDERS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "routing/routing_table.h"

namespace latentd {

class DesiredHolders {
 public:
  // Every slot gets min(replicas, eligible nodes) distinct holders. Eligible are the active nodes
  // of non-zero capacity; only if there are none, the draining ones. The nodes' order does not
  // matter to the choice.
  //
  // Blocks of `block_slots` consecutive slots have the same holders: one, but for simulations, to
  // whom few blocks are cheap. REQUIRES: it divides kSlotCount.
  //
  // INVALID_ARGUMENT: replicas is 0 or above kMaxReplicas, or there are more than kMaxNodes nodes.
  // FAILED_PRECONDITION: no node is eligible.
  static absl::StatusOr<DesiredHolders> Choose(std::span<const NodeInfo> nodes, uint32_t replicas,
                                               uint32_t block_slots = 1);

  // Indices into `nodes`, best first.
  std::span<const NodeIndex> Of(Slot slot) const {
    return {holders_.data() + size_t{ToInt(slot) / block_slots_} * per_slot_, per_slot_};
  }
  // min(replicas, eligible nodes).
  uint32_t per_slot() const { return per_slot_; }
  uint32_t block_slots() const { return block_slots_; }

 private:
  DesiredHolders(uint32_t per_slot, uint32_t block_slots, std::vector<NodeIndex> holders)
      : per_slot_(per_slot), block_slots_(block_slots), holders_(std::move(holders)) {}

  uint32_t per_slot_;
  uint32_t block_slots_;
  std::vector<NodeIndex> holders_;  // [kSlotCount / block_slots_][per_slot_]
};

}  // namespace latentd

#endif  // LATENTD_ROUTING_DESIRED_HOLDERS_H_
