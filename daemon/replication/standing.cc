#include "daemon/replication/standing.h"

namespace latentd {

Standing StandingOf(const RoutingTable& table, const NodeId& node, uint32_t replicas) {
  Standing standing{.cluster = ProgressOf(table, replicas)};
  const auto index = table.FindNode(node);
  if (!index.has_value()) return standing;
  for (uint32_t s = 0; s < kSlotCount; ++s) {
    const Slot slot{static_cast<uint16_t>(s)};
    if (table.PrimaryOf(slot) == *index) ++standing.primary;
    if (table.Holds(*index, slot)) ++standing.held;
    if (table.Joins(*index, slot)) ++standing.joining;
  }
  return standing;
}

}  // namespace latentd
