// Which lane of a node keeps a slot's chunks. Daemon and client work it out alike from the lanes'
// cache sizes, so that a request goes to the right lane at once and no table of lanes is needed.
//
// Pure; any thread.
#ifndef LATENTD_ROUTING_LANE_CHOICE_H_
#define LATENTD_ROUTING_LANE_CHOICE_H_

#include <cstdint>
#include <span>

#include "routing/ids.h"

namespace latentd {

// Index of the lane, by weighted rendezvous hashing over the lanes' indices. Every lane gets slots
// in proportion to its cache. REQUIRES: at least one lane; no cache of 0 bytes.
uint32_t LaneOf(Slot slot, std::span<const uint64_t> cache_bytes_of_lane);

}  // namespace latentd

#endif  // LATENTD_ROUTING_LANE_CHOICE_H_
