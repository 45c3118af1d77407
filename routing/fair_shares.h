// How much each node should hold: copies in proportion to capacity, but no slot twice. A node that
// is larger than all others together can use only as much of its capacity as they have room for the
// other copies.
//
// Pure functions; any thread. Integers only: the same on every machine.
#ifndef LATENTD_ROUTING_FAIR_SHARES_H_
#define LATENTD_ROUTING_FAIR_SHARES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "routing/routing_table.h"

namespace latentd {

inline constexpr int kShareFractionBits = 16;

// Of each of `eligible`, the blocks that it should hold, times 2^kShareFractionBits: together
// `per_block` times `blocks`, none more than `blocks`. (A block is a slot, or some that move together.)
// REQUIRES: 0 < per_block <= eligible.size(), blocks <= kSlotCount, no capacity is 0.
std::vector<uint64_t> FairShares(std::span<const NodeInfo> nodes,
                                 std::span<const NodeIndex> eligible, uint32_t per_block,
                                 uint32_t blocks);

// A node whose capacity is of no use beyond `usable_bytes`: the others have no room for the other
// copies.
struct IdleCapacity {
  NodeIndex node = 0;
  uint64_t usable_bytes = 0;

  friend bool operator==(const IdleCapacity&, const IdleCapacity&) = default;
};
// The same REQUIRES. The largest first.
std::vector<IdleCapacity> FindIdleCapacity(std::span<const NodeInfo> nodes,
                                           std::span<const NodeIndex> eligible, uint32_t per_block);

}  // namespace latentd

#endif  // LATENTD_ROUTING_FAIR_SHARES_H_
