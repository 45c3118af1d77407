// Which lane of a node keeps a slot's chunks: weighted rendezvous hashing over the node's lanes, so
// that each lane gets slots in proportion to its cache. Daemon and client work it out alike from
// the lanes' cache sizes: a request goes to the right lane at once and no table of lanes is needed.
//
// Pure; any thread. The same answer on every machine.
#ifndef LATENTD_ROUTING_LANE_CHOICE_H_
#define LATENTD_ROUTING_LANE_CHOICE_H_

#include <cstdint>
#include <span>

#include "routing/ids.h"

namespace latentd {

// `lane_cache_bytes` has one weight for each lane of the node, in lane order. A lane of weight 0 is
// given no slot unless all are 0; then lane 0 has them all. REQUIRES: at least one lane.
uint32_t LaneOfSlot(Slot slot, std::span<const uint64_t> lane_cache_bytes);

}  // namespace latentd

#endif  // LATENTD_ROUTING_LANE_CHOICE_H_
