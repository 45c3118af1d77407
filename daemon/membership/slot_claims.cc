#include "daemon/membership/slot_claims.h"

#include <optional>

#include "absl/status/status.h"
#include "proto/latentd/v1/membership.pb.h"

namespace latentd {

bool SlotClaimSet::Has(Slot slot, Epoch placed) const {
  const auto found = placed_.find(slot);
  return found != placed_.end() && found->second == placed;
}

bool SlotClaimSet::Add(const std::vector<SlotClaim>& claims) {
  bool changed = false;
  for (const SlotClaim& claim : claims) {
    const auto [known, fresh] = placed_.try_emplace(claim.slot, claim.placed);
    if (!fresh && known->second >= claim.placed) continue;
    known->second = claim.placed;
    changed = true;
  }
  return changed;
}

bool SlotClaimSet::KeepWhatCounts(const RoutingTable& table, std::string_view id) {
  const std::optional<NodeIndex> self = table.FindNode(id);
  return std::erase_if(placed_, [&](const auto& claim) {
           const auto& [slot, placed] = claim;
           // What was placed later is of a table that is still to come.
           if (placed > table.epoch()) return false;
           return !self || !table.Joins(*self, slot) || table.PlacedOf(slot) != placed;
         }) > 0;
}

std::string SlotClaimSet::Pack() const {
  v1::SlotClaims packed;
  packed.set_generation(ToInt(generation_));
  uint32_t end = 0;  // of the run before
  for (const auto& [slot, placed] : placed_) {
    const uint32_t number = ToInt(slot);
    const int last = packed.slots_size() - 1;
    if (last >= 0 && number == end && packed.placed(last) == ToInt(placed)) {
      packed.set_slots(last, packed.slots(last) + 1);
    } else {
      packed.add_gaps(number - end);
      packed.add_slots(1);
      packed.add_placed(ToInt(placed));
    }
    end = number + 1;
  }
  return packed.SerializeAsString();
}

absl::StatusOr<SlotClaimSet> SlotClaimSet::Unpack(std::string_view packed) {
  v1::SlotClaims from;
  const bool parsed = from.ParseFromArray(packed.data(), static_cast<int>(packed.size()));
  if (!parsed || from.gaps_size() != from.slots_size() || from.placed_size() != from.slots_size()) {
    return absl::InvalidArgumentError("stored claims: not a SlotClaims");
  }
  SlotClaimSet claims(Generation{from.generation()});
  uint64_t next = 0;
  for (int run = 0; run < from.slots_size(); ++run) {
    next += from.gaps(run);
    if (next + from.slots(run) > kSlotCount) {
      return absl::InvalidArgumentError("stored claims: of slots that there are not");
    }
    for (uint32_t i = 0; i < from.slots(run); ++i) {
      claims.placed_.emplace_hint(claims.placed_.end(), Slot{static_cast<uint16_t>(next++)},
                                  Epoch{from.placed(run)});
    }
  }
  return claims;
}

}  // namespace latentd
