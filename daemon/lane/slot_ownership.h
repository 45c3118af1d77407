// `SlotOwnership` is a routing table as one lane sees it: which slots this node and this lane
// answer for. Made by whoever brings a new table, read by the lane.
//
// Immutable; any thread.
#ifndef LATENTD_DAEMON_LANE_SLOT_OWNERSHIP_H_
#define LATENTD_DAEMON_LANE_SLOT_OWNERSHIP_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "routing/ids.h"
#include "routing/routing_table.h"

namespace latentd {

class SlotOwnership {
 public:
  // `lane_cache_bytes`: of every lane of the node. Empty: the node has this lane alone.
  SlotOwnership(std::shared_ptr<const RoutingTable> table, const NodeId& node, uint32_t lane,
                std::span<const uint64_t> lane_cache_bytes);

  Epoch epoch() const { return table_->epoch(); }
  // NOT_HOLDER naming the nodes that hold the chunk's slot, FAILED_PRECONDITION naming the lane of
  // this node that does.
  absl::Status Check(const ChunkId& id) const;

 private:
  absl::Status Elsewhere(const ChunkId& id) const;

  const std::shared_ptr<const RoutingTable> table_;
  const NodeId node_;
  const uint32_t lane_;
  const std::vector<uint64_t> lane_cache_bytes_;
  std::vector<bool> mine_;  // [kSlotCount]
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_SLOT_OWNERSHIP_H_
