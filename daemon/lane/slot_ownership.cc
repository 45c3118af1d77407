#include "daemon/lane/slot_ownership.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "routing/lane_choice.h"
#include "transport/errors.h"

namespace latentd {
namespace {

SlotRole RoleIn(const RoutingTable& table, NodeIndex node, Slot slot) {
  if (table.PrimaryOf(slot) == node) return SlotRole::kPrimary;
  if (table.Holds(node, slot)) return SlotRole::kHolder;
  return table.Joins(node, slot) ? SlotRole::kJoining : SlotRole::kNone;
}

}  // namespace

SlotOwnership::SlotOwnership(std::shared_ptr<const RoutingTable> table, const NodeId& node,
                             uint32_t lane, std::span<const uint64_t> lane_cache_bytes)
    : table_(std::move(table)),
      node_(node),
      lane_(lane),
      lane_cache_bytes_(lane_cache_bytes.begin(), lane_cache_bytes.end()),
      roles_(kSlotCount, SlotRole::kNone) {
  const auto index = table_->FindNode(node_);
  if (!index.has_value()) return;
  for (uint32_t s = 0; s < kSlotCount; ++s) {
    const auto slot = static_cast<Slot>(s);
    const SlotRole role = RoleIn(*table_, *index, slot);
    if (role == SlotRole::kNone) continue;
    if (lane_cache_bytes_.size() <= 1 || LaneOfSlot(slot, lane_cache_bytes_) == lane_) {
      roles_[s] = role;
    }
  }
}

std::vector<NodeId> SlotOwnership::OthersOf(Slot slot) const {
  std::vector<NodeId> others;
  for (const auto& nodes : {table_->HoldersOf(slot), table_->JoiningOf(slot)}) {
    for (const NodeIndex node : nodes) {
      if (table_->node(node).id != node_) others.push_back(table_->node(node).id);
    }
  }
  return others;
}

absl::Status SlotOwnership::Judge(const ChunkId& id, Epoch epoch, SlotRole needed) const {
  const uint64_t asked = ToInt(epoch), ours = ToInt(table_->epoch());
  const uint64_t placed = ToInt(table_->PlacedOf(id.slot()));
  if (asked > ours || asked < placed || (asked < ours && placed == 0)) {
    return WrongEpochError(absl::StrCat(
        "the request is of epoch ", asked, ", node ", node_, " of epoch ", ours,
        asked < ours && placed != 0
            ? absl::StrCat(", and slot ", ToInt(id.slot()), " has moved in epoch ", placed)
            : ""));
  }
  return RoleOf(id.slot()) >= needed ? absl::OkStatus() : Elsewhere(id, needed);
}

absl::Status SlotOwnership::CheckReplica(Slot slot, Epoch placed) const {
  const SlotRole role = RoleOf(slot);
  const bool follows = role == SlotRole::kJoining || role == SlotRole::kHolder;
  return follows && placed == PlacedOf(slot) ? absl::OkStatus() : PlacedOtherwise(slot, placed);
}

absl::Status SlotOwnership::CheckList(Slot slot, Epoch placed) const {
  return RoleOf(slot) >= SlotRole::kHolder && placed == PlacedOf(slot)
             ? absl::OkStatus()
             : PlacedOtherwise(slot, placed);
}

absl::Status SlotOwnership::PlacedOtherwise(Slot slot, Epoch placed) const {
  constexpr const char* kNames[] = {"has nothing of it", "joins it", "holds it", "is its primary"};
  return WrongEpochError(
      absl::StrCat("slot ", ToInt(slot), ": asked as it is placed since epoch ", ToInt(placed),
                   ", node ", node_, " lane ", lane_, " ", kNames[static_cast<int>(RoleOf(slot))],
                   ", placed since epoch ", ToInt(PlacedOf(slot)), " in epoch ", ToInt(epoch())));
}

absl::Status SlotOwnership::Elsewhere(const ChunkId& id, SlotRole needed) const {
  const auto index = table_->FindNode(node_);
  const Slot slot = id.slot();
  if (index.has_value() && RoleIn(*table_, *index, slot) >= needed) {
    return absl::FailedPreconditionError(absl::StrCat(
        "chunk ", ToString(id), ": slot ", ToInt(slot), " belongs to lane ",
        LaneOfSlot(slot, lane_cache_bytes_), " of node ", node_, ", not to lane ", lane_));
  }
  if (needed == SlotRole::kPrimary) {
    return NotHolderError(absl::StrCat("chunk ", ToString(id), ": slot ", ToInt(slot),
                                       " is published to its primary, ",
                                       table_->node(table_->PrimaryOf(slot)).id, " in epoch ",
                                       ToInt(epoch()), ", not to ", node_));
  }
  const std::string holders = absl::StrJoin(
      table_->HoldersOf(slot), ", ",
      [&](std::string* out, NodeIndex holder) { absl::StrAppend(out, table_->node(holder).id); });
  return NotHolderError(absl::StrCat("chunk ", ToString(id), ": slot ", ToInt(slot), " is held by ",
                                     holders, " in epoch ", ToInt(epoch()), ", not by ", node_));
}

}  // namespace latentd
