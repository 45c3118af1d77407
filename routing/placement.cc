#include "routing/placement.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "routing/balanced_holders.h"

namespace latentd {
namespace {

bool Contains(std::span<const NodeIndex> list, NodeIndex node) {
  return std::find(list.begin(), list.end(), node) != list.end();
}

// Nodes of the table before, as indices into the nodes that live now; nothing for those whose
// memory is gone.
std::vector<std::optional<NodeIndex>> Survivors(const RoutingTable& previous,
                                                const std::vector<NodeInfo>& nodes) {
  absl::flat_hash_map<std::string_view, NodeIndex> living;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].state != NodeState::kDown) living.emplace(nodes[i].id, i);
  }
  std::vector<std::optional<NodeIndex>> now;
  for (const NodeInfo& node : previous.nodes()) {
    const auto found = living.find(node.id);
    const bool same = found != living.end() && nodes[found->second].generation == node.generation;
    now.push_back(same ? std::optional(found->second) : std::nullopt);
  }
  return now;
}

// Those of `desired` that hold the slot, in that order, then the other holders in theirs.
std::vector<NodeIndex> InDesiredOrder(std::span<const NodeIndex> desired,
                                      const std::vector<NodeIndex>& holders) {
  std::vector<NodeIndex> ordered;
  for (const NodeIndex node : desired) {
    if (Contains(holders, node)) ordered.push_back(node);
  }
  if (ordered.size() == desired.size()) return ordered;  // the others are let go
  for (const NodeIndex node : holders) {
    if (!Contains(desired, node)) ordered.push_back(node);
  }
  return ordered;
}

class Placement {
 public:
  Placement(const RoutingTable* previous, const PlacementInput& input,
            const DesiredHolders& desired, Epoch epoch)
      : previous_(previous), input_(input), desired_(desired), epoch_(epoch) {
    if (previous != nullptr) survivors_ = Survivors(*previous, input.nodes);
  }

  SlotRange Of(Slot slot) const {
    const std::span<const NodeIndex> desired = desired_.Of(slot);
    bool again = false;
    SlotRange range{.first_slot = ToInt(slot),
                    .slots = 1,
                    .generation = Generation{ToInt(epoch_)},
                    .holders = LivingHolders(slot, again),
                    .joining = {},
                    .placed = epoch_};
    if (range.holders.empty()) {
      range.holders.assign(desired.begin(), desired.end());
      return range;
    }
    range.generation = previous_->GenerationOf(slot);
    range.holders = InDesiredOrder(desired, range.holders);
    for (const NodeIndex node : desired) {
      if (!Contains(range.holders, node)) range.joining.push_back(node);
    }
    if (!again && AsBefore(previous_->HoldersOf(slot), range.holders) &&
        AsBefore(previous_->JoiningOf(slot), range.joining)) {
      range.placed = previous_->PlacedOf(slot);
    }
    return range;
  }

 private:
  bool AsBefore(std::span<const NodeIndex> before, const std::vector<NodeIndex>& now) const {
    return std::equal(before.begin(), before.end(), now.begin(), now.end(),
                      [&](NodeIndex b, NodeIndex n) { return survivors_[b] == n; });
  }

  bool HasMissed(NodeIndex node, Slot slot, Epoch since) const {
    if (!input_.missed) return false;
    const std::optional<Epoch> missed = input_.missed(node, slot);
    return missed && *missed >= since;
  }

  // `again`: one that says that it has everything does not.
  std::vector<NodeIndex> LivingHolders(Slot slot, bool& again) const {
    std::vector<NodeIndex> living;
    if (previous_ == nullptr) return living;
    for (const NodeIndex before : previous_->HoldersOf(slot)) {
      if (survivors_[before]) living.push_back(*survivors_[before]);
    }
    if (living.empty()) return living;  // nobody is left to have copied from
    const auto has_all = [&](NodeIndex node) { return !HasMissed(node, slot, Epoch{}); };
    if (std::any_of(living.begin(), living.end(), has_all)) {
      std::erase_if(living, [&](NodeIndex node) { return !has_all(node); });
    }
    for (const NodeIndex before : previous_->JoiningOf(slot)) {
      const std::optional<NodeIndex> now = survivors_[before];
      const Epoch placed = previous_->PlacedOf(slot);
      if (!now || !input_.in_sync || !input_.in_sync(*now, slot, placed)) continue;
      if (HasMissed(*now, slot, placed)) {
        again = true;
      } else {
        living.push_back(*now);
      }
    }
    return living;
  }

  const RoutingTable* previous_;
  const PlacementInput& input_;
  const DesiredHolders& desired_;
  const Epoch epoch_;
  std::vector<std::optional<NodeIndex>> survivors_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const RoutingTable>> NextTable(
    std::shared_ptr<const RoutingTable> previous, PlacementInput input) {
  const uint32_t block = input.block_slots;
  const absl::StatusOr<DesiredHolders> desired =
      BalanceHolders(previous.get(), input.nodes, input.replicas, block);
  if (!desired.ok()) return desired.status();
  const Epoch epoch{
      std::max(previous == nullptr ? 1 : ToInt(previous->epoch()) + 1, ToInt(input.least_epoch))};
  const Placement placement(previous.get(), input, *desired, epoch);
  bool changed = previous == nullptr || previous->epoch() < input.least_epoch ||
                 !std::equal(input.nodes.begin(), input.nodes.end(), previous->nodes().begin(),
                             previous->nodes().end());
  std::vector<SlotRange> ranges;
  ranges.reserve(kSlotCount / block);
  for (uint32_t number = 0; number < kSlotCount; number += block) {
    SlotRange range = placement.Of(Slot{static_cast<uint16_t>(number)});
    range.slots = block;
    changed = changed || range.placed == epoch;
    if (!ranges.empty() && ranges.back().generation == range.generation &&
        ranges.back().placed == range.placed && ranges.back().holders == range.holders &&
        ranges.back().joining == range.joining) {
      ranges.back().slots += block;
    } else {
      ranges.push_back(std::move(range));
    }
  }
  if (!changed) return previous;
  return RoutingTable::Create({epoch, std::move(input.nodes), std::move(ranges)});
}

PlacementProgress ProgressOf(const RoutingTable& table, uint32_t replicas) {
  PlacementProgress progress;
  for (uint32_t number = 0; number < kSlotCount; ++number) {
    const Slot slot{static_cast<uint16_t>(number)};
    const size_t joining = table.JoiningOf(slot).size();
    progress.joining += joining;
    if (joining > 0) ++progress.moving;
    if (table.HoldersOf(slot).size() < replicas) ++progress.degraded;
  }
  return progress;
}

}  // namespace latentd
