#include "daemon/membership/slot_claims.h"

#include <optional>

#include "absl/status/status.h"
#include "proto/latentd/v1/membership.pb.h"

namespace latentd {
namespace {

// Runs of slots that are placed at the same epoch: an entry of each list for each.
template <typename Message>
void PackRuns(const std::map<Slot, Epoch>& placed_of, Message& packed) {
  uint32_t end = 0;  // of the run before
  for (const auto& [slot, placed] : placed_of) {
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
}

template <typename Message>
absl::Status UnpackRuns(const Message& from, std::map<Slot, Epoch>& placed_of) {
  if (from.gaps_size() != from.slots_size() || from.placed_size() != from.slots_size()) {
    return absl::InvalidArgumentError("stored claims: not a SlotClaims");
  }
  uint64_t next = 0;
  for (int run = 0; run < from.slots_size(); ++run) {
    next += from.gaps(run);
    if (next + from.slots(run) > kSlotCount) {
      return absl::InvalidArgumentError("stored claims: of slots that there are not");
    }
    for (uint32_t i = 0; i < from.slots(run); ++i) {
      placed_of.emplace_hint(placed_of.end(), Slot{static_cast<uint16_t>(next++)},
                             Epoch{from.placed(run)});
    }
  }
  return absl::OkStatus();
}

// Whether `node` may still lack what it missed of a slot that was placed at `placed` then.
bool StillLacks(const RoutingTable& table, NodeIndex node, Slot slot, Epoch placed) {
  // One that joins copies all that was there when the slot was placed so.
  return table.Holds(node, slot) || (table.Joins(node, slot) && table.PlacedOf(slot) <= placed);
}

bool HoldsOrJoins(const RoutingTable& table, std::optional<NodeIndex> node, Slot slot) {
  return node && (table.Holds(*node, slot) || table.Joins(*node, slot));
}

}  // namespace

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

bool SlotClaimSet::AddMissed(const MissedWrite& missed) {
  Missed& node = missed_[missed.node];
  if (node.generation != missed.generation) node = {.generation = missed.generation, .placed = {}};
  const auto [known, fresh] = node.placed.try_emplace(missed.slot, missed.placed);
  if (!fresh && known->second >= missed.placed) return false;
  known->second = missed.placed;
  return true;
}

bool SlotClaimSet::KeepWhatCounts(const RoutingTable& table, std::string_view id) {
  const std::optional<NodeIndex> self = table.FindNode(id);
  size_t dropped = 0;
  dropped += std::erase_if(placed_, [&](const auto& claim) {
    const auto& [slot, placed] = claim;
    // What was placed later is of a table that is still to come.
    if (placed > table.epoch()) return false;
    return !self || !table.Joins(*self, slot) || table.PlacedOf(slot) != placed;
  });
  for (auto& [node, missed] : missed_) {
    const std::optional<NodeIndex> index = table.FindNode(node);
    const bool same = index && table.node(*index).generation == missed.generation;
    dropped += std::erase_if(missed.placed, [&](const auto& write) {
      const auto& [slot, placed] = write;
      return !same || !HoldsOrJoins(table, self, slot) || !StillLacks(table, *index, slot, placed);
    });
  }
  std::erase_if(missed_, [](const auto& node) { return node.second.placed.empty(); });
  return dropped > 0;
}

std::string SlotClaimSet::Pack() const {
  v1::SlotClaims packed;
  packed.set_generation(ToInt(generation_));
  PackRuns(placed_, packed);
  for (const auto& [node, missed] : missed_) {
    v1::MissedWrites& entry = *packed.add_missed();
    entry.set_node_id(node);
    entry.set_generation(ToInt(missed.generation));
    PackRuns(missed.placed, entry);
  }
  return packed.SerializeAsString();
}

absl::StatusOr<SlotClaimSet> SlotClaimSet::Unpack(std::string_view packed) {
  v1::SlotClaims from;
  if (!from.ParseFromArray(packed.data(), static_cast<int>(packed.size()))) {
    return absl::InvalidArgumentError("stored claims: not a SlotClaims");
  }
  SlotClaimSet claims(Generation{from.generation()});
  if (absl::Status s = UnpackRuns(from, claims.placed_); !s.ok()) return s;
  for (const v1::MissedWrites& entry : from.missed()) {
    Missed& missed = claims.missed_[entry.node_id()];
    missed.generation = Generation{entry.generation()};
    if (absl::Status s = UnpackRuns(entry, missed.placed); !s.ok()) return s;
  }
  return claims;
}

}  // namespace latentd
