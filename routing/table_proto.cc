#include "routing/table_proto.h"

#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

absl::StatusOr<NodeState> StateFromProto(const v1::Node& node) {
  switch (node.state()) {
    case v1::NODE_STATE_ACTIVE:
    case v1::NODE_STATE_UNKNOWN:  // a table has no such state: it is the answering node's view
      return NodeState::kActive;
    case v1::NODE_STATE_DRAINING:
      return NodeState::kDraining;
    case v1::NODE_STATE_DOWN:
      return NodeState::kDown;
    default:
      return absl::InvalidArgumentError(absl::StrCat("routing table: node \"", node.id(),
                                                     "\" is in unknown state ", node.state()));
  }
}

}  // namespace

v1::NodeState ToProto(NodeState state) {
  switch (state) {
    case NodeState::kActive:
      return v1::NODE_STATE_ACTIVE;
    case NodeState::kDraining:
      return v1::NODE_STATE_DRAINING;
    case NodeState::kDown:
      return v1::NODE_STATE_DOWN;
  }
  return v1::NODE_STATE_UNSPECIFIED;
}

v1::Node ToProto(const NodeInfo& node) {
  v1::Node message;
  message.set_id(node.id);
  message.set_control_address(node.control_address);
  message.set_capacity_bytes(node.capacity_bytes);
  message.set_generation(ToInt(node.generation));
  message.set_state(ToProto(node.state));
  return message;
}

v1::SlotRange ToProto(const SlotRange& range) {
  v1::SlotRange message;
  message.set_first_slot(range.first_slot);
  message.set_slots(range.slots);
  message.set_generation(ToInt(range.generation));
  message.set_placed(ToInt(range.placed));
  for (const NodeIndex holder : range.holders) message.add_holders(holder);
  for (const NodeIndex node : range.joining) message.add_joining(node);
  return message;
}

v1::RoutingTable ToProto(const RoutingTable& table) {
  const RoutingTableParts parts = table.ToParts();
  v1::RoutingTable message;
  message.set_epoch(ToInt(parts.epoch));
  for (const NodeInfo& node : parts.nodes) *message.add_nodes() = ToProto(node);
  for (const SlotRange& range : parts.ranges) *message.add_ranges() = ToProto(range);
  return message;
}

absl::StatusOr<NodeInfo> FromProto(const v1::Node& node) {
  const absl::StatusOr<NodeState> state = StateFromProto(node);
  if (!state.ok()) return state.status();
  return NodeInfo{.id = node.id(),
                  .control_address = node.control_address(),
                  .generation = Generation{node.generation()},
                  .capacity_bytes = node.capacity_bytes(),
                  .state = *state};
}

absl::StatusOr<SlotRange> FromProto(const v1::SlotRange& range) {
  SlotRange to{.first_slot = range.first_slot(),
               .slots = range.slots(),
               .generation = Generation{range.generation()},
               .holders = {},
               .joining = {},
               .placed = Epoch{range.placed()}};
  for (const auto& [from, into] :
       {std::pair(&range.holders(), &to.holders), std::pair(&range.joining(), &to.joining)}) {
    for (const uint32_t holder : *from) {
      // Create checks indices too, but only after they have been cut to 16 bits.
      if (holder > std::numeric_limits<NodeIndex>::max()) {
        return absl::InvalidArgumentError(absl::StrCat("routing table: slot ", range.first_slot(),
                                                       " has unknown holder ", holder));
      }
      into->push_back(static_cast<NodeIndex>(holder));
    }
  }
  return to;
}

absl::StatusOr<std::shared_ptr<const RoutingTable>> FromProto(const v1::RoutingTable& message) {
  if (message.base_epoch() != 0) {
    return absl::InvalidArgumentError(absl::StrCat("routing table of epoch ", message.epoch(),
                                                   ": only what has changed since epoch ",
                                                   message.base_epoch()));
  }
  RoutingTableParts parts;
  parts.epoch = Epoch{message.epoch()};
  for (const v1::Node& node : message.nodes()) {
    absl::StatusOr<NodeInfo> info = FromProto(node);
    if (!info.ok()) return info.status();
    parts.nodes.push_back(*std::move(info));
  }
  for (const v1::SlotRange& range : message.ranges()) {
    absl::StatusOr<SlotRange> to = FromProto(range);
    if (!to.ok()) return to.status();
    parts.ranges.push_back(*std::move(to));
  }
  return RoutingTable::Create(std::move(parts));
}

}  // namespace latentd
