#include "daemon/lane/slot_ownership.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "routing/lane_choice.h"
#include "transport/errors.h"

namespace latentd {

SlotOwnership::SlotOwnership(std::shared_ptr<const RoutingTable> table, const NodeId& node,
                             uint32_t lane, std::span<const uint64_t> lane_cache_bytes)
    : table_(std::move(table)),
      node_(node),
      lane_(lane),
      lane_cache_bytes_(lane_cache_bytes.begin(), lane_cache_bytes.end()),
      mine_(kSlotCount, false) {
  const auto index = table_->FindNode(node_);
  if (!index.has_value()) return;
  for (uint32_t s = 0; s < kSlotCount; ++s) {
    const auto slot = static_cast<Slot>(s);
    mine_[s] = table_->Holds(*index, slot) &&
               (lane_cache_bytes_.size() <= 1 || LaneOfSlot(slot, lane_cache_bytes_) == lane_);
  }
}

absl::Status SlotOwnership::Check(const ChunkId& id) const {
  return mine_[ToInt(id.slot())] ? absl::OkStatus() : Elsewhere(id);
}

absl::Status SlotOwnership::Elsewhere(const ChunkId& id) const {
  const auto index = table_->FindNode(node_);
  if (index.has_value() && table_->Holds(*index, id.slot())) {
    return absl::FailedPreconditionError(absl::StrCat(
        "chunk ", ToString(id), ": slot ", ToInt(id.slot()), " belongs to lane ",
        LaneOfSlot(id.slot(), lane_cache_bytes_), " of node ", node_, ", not to lane ", lane_));
  }
  const std::string holders = absl::StrJoin(
      table_->HoldersOf(id.slot()), ", ",
      [&](std::string* out, NodeIndex holder) { absl::StrAppend(out, table_->node(holder).id); });
  return NotHolderError(absl::StrCat("chunk ", ToString(id), ": slot ", ToInt(id.slot()),
                                     " is held by ", holders, " in epoch ", ToInt(epoch()),
                                     ", not by ", node_));
}

}  // namespace latentd
