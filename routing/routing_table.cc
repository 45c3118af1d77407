#include "routing/routing_table.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

absl::Status CheckNodes(std::span<const NodeInfo> nodes) {
  if (nodes.empty()) return absl::InvalidArgumentError("routing table without nodes");
  if (nodes.size() > kMaxNodes) {
    return absl::InvalidArgumentError(absl::StrCat("routing table of ", nodes.size(),
                                                   " nodes; at most ", kMaxNodes, " are allowed"));
  }
  absl::flat_hash_set<std::string> ids;
  absl::flat_hash_map<std::string, NodeId> id_at_address;
  for (const NodeInfo& node : nodes) {
    if (node.id.empty()) return absl::InvalidArgumentError("routing table has a node without id");
    if (!ids.insert(node.id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("node '", node.id, "' is in the routing table twice"));
    }
    if (node.control_address.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("node '", node.id, "' has no control address"));
    }
    const auto [other, fresh] = id_at_address.emplace(node.control_address, node.id);
    if (!fresh) {
      return absl::InvalidArgumentError(absl::StrCat("nodes '", other->second, "' and '", node.id,
                                                     "' have the same control address ",
                                                     node.control_address));
    }
    if (NodeStateName(node.state).empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("node '", node.id, "' has unknown state ", static_cast<int>(node.state)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHolders(const SlotRange& range, std::span<const NodeInfo> nodes) {
  const std::string where = absl::StrCat("slots from ", range.first_slot);
  if (range.holders.empty())
    return absl::InvalidArgumentError(absl::StrCat(where, " have no holder"));
  for (const auto* list : {&range.holders, &range.joining}) {
    if (list->size() > kMaxReplicas) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, " have ", list->size(), list == &range.holders ? " holders" : " joining nodes",
          "; at most ", kMaxReplicas, " are allowed"));
    }
  }
  std::vector<NodeIndex> seen;
  for (const auto* list : {&range.holders, &range.joining}) {
    for (const NodeIndex holder : *list) {
      if (holder >= nodes.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, " are held by node number ", holder, " of ", nodes.size()));
      }
      if (std::find(seen.begin(), seen.end(), holder) != seen.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, " are held twice by node '", nodes[holder].id, "'"));
      }
      seen.push_back(holder);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRanges(std::span<const SlotRange> ranges, std::span<const NodeInfo> nodes,
                         Epoch epoch) {
  uint32_t next_slot = 0;
  for (const SlotRange& range : ranges) {
    if (range.first_slot != next_slot) {
      return absl::InvalidArgumentError(
          absl::StrCat("slot range starts at ", range.first_slot, ", not at ", next_slot));
    }
    if (range.slots == 0 || range.slots > kSlotCount - next_slot) {
      return absl::InvalidArgumentError(
          absl::StrCat("slot range at ", range.first_slot, " has ", range.slots, " slots"));
    }
    if (absl::Status holders = CheckHolders(range, nodes); !holders.ok()) return holders;
    if (range.placed > epoch) {
      return absl::InvalidArgumentError(absl::StrCat("slots from ", range.first_slot,
                                                     " are placed in epoch ", ToInt(range.placed),
                                                     " of a table of epoch ", ToInt(epoch)));
    }
    next_slot += range.slots;
  }
  if (next_slot != kSlotCount) {
    return absl::InvalidArgumentError(absl::StrCat("slots from ", next_slot, " have no holder"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view NodeStateName(NodeState state) {
  switch (state) {
    case NodeState::kActive:
      return "active";
    case NodeState::kDraining:
      return "draining";
    case NodeState::kDown:
      return "down";
  }
  return {};
}

absl::StatusOr<std::shared_ptr<const RoutingTable>> RoutingTable::Create(RoutingTableParts parts) {
  if (ToInt(parts.epoch) == 0) return absl::InvalidArgumentError("routing table of epoch 0");
  if (absl::Status nodes = CheckNodes(parts.nodes); !nodes.ok()) return nodes;
  if (absl::Status ranges = CheckRanges(parts.ranges, parts.nodes, parts.epoch); !ranges.ok())
    return ranges;

  std::shared_ptr<RoutingTable> table(new RoutingTable);
  table->epoch_ = parts.epoch;
  table->nodes_ = std::move(parts.nodes);
  table->set_of_slot_.reserve(kSlotCount);
  using Key =
      std::tuple<uint64_t, uint64_t, size_t, std::vector<NodeIndex>>;  // holders, then joining
  absl::flat_hash_map<Key, uint16_t> known_sets;
  known_sets.reserve(parts.ranges.size());
  table->sets_.reserve(parts.ranges.size());
  for (SlotRange& range : parts.ranges) {
    const size_t holders = range.holders.size();
    range.holders.insert(range.holders.end(), range.joining.begin(), range.joining.end());
    const HolderSet set{
        range.generation, range.placed, static_cast<uint32_t>(table->holders_.size()),
        static_cast<uint16_t>(holders), static_cast<uint16_t>(range.joining.size())};
    const auto [known, fresh] = known_sets.try_emplace(
        {ToInt(range.generation), ToInt(range.placed), holders, std::move(range.holders)},
        static_cast<uint16_t>(table->sets_.size()));
    if (fresh) {
      const std::vector<NodeIndex>& all = std::get<3>(known->first);
      table->holders_.insert(table->holders_.end(), all.begin(), all.end());
      table->sets_.push_back(set);
    }
    table->set_of_slot_.insert(table->set_of_slot_.end(), range.slots, known->second);
  }
  return table;
}

std::optional<NodeIndex> RoutingTable::FindNode(std::string_view id) const {
  const auto found = std::find_if(nodes_.begin(), nodes_.end(),
                                  [id](const NodeInfo& node) { return node.id == id; });
  if (found == nodes_.end()) return std::nullopt;
  return static_cast<NodeIndex>(found - nodes_.begin());
}

bool RoutingTable::Holds(NodeIndex node, Slot slot) const {
  const std::span<const NodeIndex> holders = HoldersOf(slot);
  return std::find(holders.begin(), holders.end(), node) != holders.end();
}

bool RoutingTable::Joins(NodeIndex node, Slot slot) const {
  const std::span<const NodeIndex> joining = JoiningOf(slot);
  return std::find(joining.begin(), joining.end(), node) != joining.end();
}

std::vector<Slot> RoutingTable::SlotsOf(NodeIndex node) const {
  std::vector<Slot> slots;
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    if (PrimaryOf(Slot(slot)) == node) slots.push_back(Slot(slot));
  }
  return slots;
}

RoutingTableParts RoutingTable::ToParts() const {
  RoutingTableParts parts{epoch_, nodes_, {}};
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    // Equal sets have equal indices: Create keeps each only once.
    if (slot > 0 && set_of_slot_[slot] == set_of_slot_[slot - 1]) {
      ++parts.ranges.back().slots;
      continue;
    }
    const std::span<const NodeIndex> holders = HoldersOf(Slot(slot));
    const std::span<const NodeIndex> joining = JoiningOf(Slot(slot));
    parts.ranges.push_back({slot,
                            1,
                            GenerationOf(Slot(slot)),
                            {holders.begin(), holders.end()},
                            {joining.begin(), joining.end()},
                            PlacedOf(Slot(slot))});
  }
  return parts;
}

bool SamePlacement(const RoutingTable& a, const RoutingTable& b) {
  if (a.nodes().size() != b.nodes().size()) return false;
  std::vector<NodeIndex> in_b;
  for (const NodeInfo& node : a.nodes()) {
    const std::optional<NodeIndex> index = b.FindNode(node.id);
    if (!index.has_value() || b.node(*index).control_address != node.control_address) return false;
    in_b.push_back(*index);
  }
  const auto same = [&](NodeIndex of_a, NodeIndex of_b) { return in_b[of_a] == of_b; };
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    const auto of_a = a.HoldersOf(Slot(slot));
    const auto of_b = b.HoldersOf(Slot(slot));
    if (!std::equal(of_a.begin(), of_a.end(), of_b.begin(), of_b.end(), same)) return false;
  }
  return true;
}

}  // namespace latentd
