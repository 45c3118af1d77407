// `SlotOwnership` is a routing table as one lane sees it: which slots this node and this lane
// answer for, and in which role. Made by whoever brings a new table, read by the lane.
//
// Who asks by another epoch than the table's may still be right: a requester of an older table is
// served as long as the slot has not moved since that table (and, by the lane, where it reads what
// this node holds all the same: lane_slots.cc). What primaries pass on is taken by
// where the slot is placed, whatever the epochs.
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

// Of this lane for a slot; in the order of what it may do.
enum class SlotRole : uint8_t {
  kNone,     // the slot is elsewhere, in another lane or on another node
  kJoining,  // takes what the primary passes on, answers nobody
  kHolder,   // answers
  kPrimary,  // and takes what is published
};

class SlotOwnership {
 public:
  // `lane_cache_bytes`: of every lane of the node. Empty: the node has this lane alone.
  SlotOwnership(std::shared_ptr<const RoutingTable> table, const NodeId& node, uint32_t lane,
                std::span<const uint64_t> lane_cache_bytes);

  Epoch epoch() const { return table_->epoch(); }
  SlotRole RoleOf(Slot slot) const { return roles_[ToInt(slot)]; }
  Epoch PlacedOf(Slot slot) const { return table_->PlacedOf(slot); }
  Generation GenerationOf(Slot slot) const { return table_->GenerationOf(slot); }
  // The nodes that hold or join the slot, without this one.
  std::vector<NodeId> OthersOf(Slot slot) const;
  bool HasOthers(Slot slot) const {
    return table_->HoldersOf(slot).size() + table_->JoiningOf(slot).size() > 1;
  }

  // Of a client's request about a chunk, made by the table of `epoch`. WRONG_EPOCH: the chunk's slot
  // has moved since, or the table is newer than this one. NOT_HOLDER naming the nodes that hold the
  // slot; FAILED_PRECONDITION naming the lane of this node that does.
  absl::Status CheckRead(const ChunkId& id, Epoch epoch) const {
    return epoch == table_->epoch() && roles_[ToInt(id.slot())] >= SlotRole::kHolder
               ? absl::OkStatus()
               : Judge(id, epoch, SlotRole::kHolder);
  }
  // The same of what changes a chunk. NOT_HOLDER naming the primary.
  absl::Status CheckWrite(const ChunkId& id, Epoch epoch) const {
    return epoch == table_->epoch() && roles_[ToInt(id.slot())] == SlotRole::kPrimary
               ? absl::OkStatus()
               : Judge(id, epoch, SlotRole::kPrimary);
  }
  // Of what a primary passes on: WRONG_EPOCH unless this lane holds or joins the slot, and it is
  // placed so since `placed`.
  absl::Status CheckReplica(Slot slot, Epoch placed) const;
  // Of a node that wants to copy the slot: the same, of a holder.
  absl::Status CheckList(Slot slot, Epoch placed) const;

 private:
  absl::Status Judge(const ChunkId& id, Epoch epoch, SlotRole needed) const;
  absl::Status Elsewhere(const ChunkId& id, SlotRole needed) const;
  absl::Status PlacedOtherwise(Slot slot, Epoch placed) const;

  const std::shared_ptr<const RoutingTable> table_;
  const NodeId node_;
  const uint32_t lane_;
  const std::vector<uint64_t> lane_cache_bytes_;
  std::vector<SlotRole> roles_;  // [kSlotCount]
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_SLOT_OWNERSHIP_H_
