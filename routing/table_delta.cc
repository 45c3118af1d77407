#include "routing/table_delta.h"

#include <xxhash.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "routing/table_proto.h"
#include "routing/table_snapshot.h"

namespace latentd {
namespace {

using IndexMap = std::vector<std::optional<NodeIndex>>;  // from the base's nodes to the next one's

// Whether all of `nodes` are still there; then they are renumbered.
bool Renumber(std::vector<NodeIndex>& nodes, const IndexMap& now) {
  for (NodeIndex& node : nodes) {
    if (!now[node]) return false;
    node = *now[node];
  }
  return true;
}

bool SameBut(const SlotRange& a, const SlotRange& b) {
  return a.generation == b.generation && a.placed == b.placed && a.holders == b.holders &&
         a.joining == b.joining;
}

void AddChange(const SlotRange& changed, uint32_t first, uint32_t slots, v1::RoutingTable& delta) {
  SlotRange range = changed;
  range.first_slot = first;
  range.slots = slots;
  *delta.add_ranges() = ToProto(range);
}

// Appends [first, first + slots) of `range`.
void AddPiece(const SlotRange& range, uint32_t first, uint32_t slots,
              std::vector<SlotRange>& ranges) {
  if (slots == 0) return;
  ranges.push_back(range);
  ranges.back().first_slot = first;
  ranges.back().slots = slots;
}

// The base's nodes as the delta has them. `now` is filled.
absl::StatusOr<std::vector<NodeInfo>> ChangedNodes(const RoutingTable& base,
                                                   const v1::RoutingTable& delta, IndexMap& now) {
  const absl::flat_hash_set<std::string> removed(delta.removed().begin(), delta.removed().end());
  std::vector<NodeInfo> nodes;
  absl::flat_hash_map<std::string, size_t> index_of;
  now.assign(base.nodes().size(), std::nullopt);
  for (size_t i = 0; i < base.nodes().size(); ++i) {
    const NodeInfo& node = base.nodes()[i];
    if (removed.contains(node.id)) continue;
    now[i] = static_cast<NodeIndex>(nodes.size());
    index_of.emplace(node.id, nodes.size());
    nodes.push_back(node);
  }
  for (const v1::Node& message : delta.nodes()) {
    absl::StatusOr<NodeInfo> node = FromProto(message);
    if (!node.ok()) return node.status();
    const auto known = index_of.find(node->id);
    if (known == index_of.end()) {
      nodes.push_back(*std::move(node));
    } else {
      nodes[known->second] = *std::move(node);
    }
  }
  return nodes;
}

// The slots' ranges: those of `changed` where there are any, else those of `before`.
absl::StatusOr<std::vector<SlotRange>> Overlay(std::vector<SlotRange> before, const IndexMap& now,
                                               const std::vector<SlotRange>& changed) {
  std::vector<SlotRange> ranges;
  auto change = changed.begin();
  for (SlotRange& old : before) {
    const bool alive = Renumber(old.holders, now) && Renumber(old.joining, now);
    uint32_t slot = old.first_slot;
    const uint32_t end = old.first_slot + old.slots;
    while (slot < end) {
      while (change != changed.end() && change->first_slot + change->slots <= slot) ++change;
      const uint32_t changes_at = change == changed.end() ? kSlotCount : change->first_slot;
      if (changes_at <= slot) {  // a change that goes on into this range, or starts here
        const uint32_t until = std::min(end, change->first_slot + change->slots);
        AddPiece(*change, slot, until - slot, ranges);
        slot = until;
        continue;
      }
      if (!alive) {
        return absl::InvalidArgumentError(
            absl::StrCat("table delta: slot ", slot, " is left to a node that is removed"));
      }
      const uint32_t until = std::min(end, changes_at);
      AddPiece(old, slot, until - slot, ranges);
      slot = until;
    }
  }
  return ranges;
}

}  // namespace

uint64_t HashTable(const RoutingTable& table) {
  const std::string packed = PackTable(table);
  return XXH3_64bits(packed.data(), packed.size());
}

std::optional<v1::RoutingTable> MakeDelta(const RoutingTable& base, const RoutingTable& next) {
  v1::RoutingTable delta;
  delta.set_epoch(ToInt(next.epoch()));
  delta.set_base_epoch(ToInt(base.epoch()));
  RoutingTableParts before = base.ToParts();
  const RoutingTableParts after = next.ToParts();

  absl::flat_hash_map<std::string, NodeIndex> index_in_next;
  for (size_t i = 0; i < after.nodes.size(); ++i) {
    index_in_next.emplace(after.nodes[i].id, static_cast<NodeIndex>(i));
  }
  IndexMap now(before.nodes.size());
  NodeIndex kept = 0;
  for (size_t i = 0; i < before.nodes.size(); ++i) {
    const auto found = index_in_next.find(before.nodes[i].id);
    if (found == index_in_next.end()) {
      delta.add_removed(before.nodes[i].id);
      continue;
    }
    if (found->second != kept) return std::nullopt;
    now[i] = kept++;
    if (before.nodes[i] != after.nodes[found->second]) {
      *delta.add_nodes() = ToProto(after.nodes[found->second]);
    }
  }
  for (size_t i = kept; i < after.nodes.size(); ++i) *delta.add_nodes() = ToProto(after.nodes[i]);

  auto old = before.ranges.begin();
  bool old_alive = Renumber(old->holders, now) && Renumber(old->joining, now);
  for (const SlotRange& range : after.ranges) {
    uint32_t slot = range.first_slot;
    const uint32_t end = range.first_slot + range.slots;
    uint32_t changed_from = end;  // end: nothing to say yet
    while (slot < end) {
      if (old->first_slot + old->slots <= slot) {
        ++old;
        old_alive = Renumber(old->holders, now) && Renumber(old->joining, now);
      }
      if (old_alive && SameBut(*old, range)) {
        if (changed_from < slot) AddChange(range, changed_from, slot - changed_from, delta);
        changed_from = end;
      } else {
        changed_from = std::min(changed_from, slot);
      }
      slot = std::min(end, old->first_slot + old->slots);
    }
    if (changed_from < end) AddChange(range, changed_from, end - changed_from, delta);
  }
  return delta;
}

absl::StatusOr<std::shared_ptr<const RoutingTable>> ApplyDelta(const RoutingTable& base,
                                                               const v1::RoutingTable& delta) {
  if (delta.base_epoch() != ToInt(base.epoch())) {
    return absl::FailedPreconditionError(absl::StrCat("table delta from epoch ", delta.base_epoch(),
                                                      " to ", delta.epoch(), ", applied to epoch ",
                                                      ToInt(base.epoch())));
  }
  IndexMap now;
  absl::StatusOr<std::vector<NodeInfo>> nodes = ChangedNodes(base, delta, now);
  if (!nodes.ok()) return nodes.status();
  std::vector<SlotRange> changed;
  uint64_t covered = 0;
  for (const v1::SlotRange& message : delta.ranges()) {
    absl::StatusOr<SlotRange> range = FromProto(message);
    if (!range.ok()) return range.status();
    if (range->first_slot < covered || range->slots == 0 ||
        uint64_t{range->first_slot} + range->slots > kSlotCount) {
      return absl::InvalidArgumentError(absl::StrCat("table delta: ", range->slots,
                                                     " changed slots from ", range->first_slot,
                                                     " after slot ", covered));
    }
    covered = range->first_slot + range->slots;
    changed.push_back(*std::move(range));
  }
  absl::StatusOr<std::vector<SlotRange>> ranges = Overlay(base.ToParts().ranges, now, changed);
  if (!ranges.ok()) return ranges.status();
  return RoutingTable::Create({Epoch{delta.epoch()}, *std::move(nodes), *std::move(ranges)});
}

}  // namespace latentd
