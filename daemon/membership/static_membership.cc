#include "daemon/membership/static_membership.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "routing/assignment.h"

namespace latentd {
namespace {

// Of nodes whose capacities the configuration does not tell. The same on every daemon, whatever its
// own cache: weights that differed from daemon to daemon would make tables that differ.
constexpr uint64_t kEqualWeight = 1;

}  // namespace

StaticMembership::StaticMembership(StaticMembershipOptions options)
    : options_(std::move(options)) {}

absl::Status StaticMembership::Start(NodeInfo self, TableCallback on_table) {
  std::vector<NodeInfo> nodes;
  bool found_self = false;
  for (const StaticPeer& peer : options_.peers) {
    NodeInfo node{.id = peer.id,
                  .control_address = peer.control_address,
                  .generation = {},
                  .capacity_bytes = peer.capacity_bytes == 0 ? kEqualWeight : peer.capacity_bytes};
    if (peer.id == self.id) {
      found_self = true;
      node.generation = self.generation;
      self.control_address = peer.control_address;
    }
    nodes.push_back(std::move(node));
  }
  if (options_.peers.empty()) {
    nodes.push_back(self);
  } else if (!found_self) {
    return absl::InvalidArgumentError(
        absl::StrCat("membership.peers does not list this node, \"", self.id, "\""));
  }

  const uint32_t replicas = std::min<uint32_t>(options_.replicas, nodes.size());
  absl::StatusOr<TablePtr> table = AssignSlots(options_.epoch, std::move(nodes), replicas);
  if (!table.ok()) {
    return absl::Status(table.status().code(),
                        absl::StrCat("membership.peers: ", table.status().message()));
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    self_ = std::move(self);
    table_ = *table;
  }
  on_table(*std::move(table));
  return absl::OkStatus();
}

TablePtr StaticMembership::table() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return table_;
}

std::vector<Member> StaticMembership::ListNodes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Member> members;
  if (table_ == nullptr) return members;
  for (const NodeInfo& node : table_->nodes()) {
    if (node.id == self_.id) {
      members.push_back({.node = self_, .heard_from = true, .version = options_.version});
      continue;
    }
    Member member{.node = node, .heard_from = false, .version = {}};
    if (node.capacity_bytes == kEqualWeight) member.node.capacity_bytes = 0;
    members.push_back(std::move(member));
  }
  return members;
}

void StaticMembership::SetDraining(bool draining) {
  const std::lock_guard<std::mutex> lock(mutex_);
  self_.state = draining ? NodeState::kDraining : NodeState::kActive;
}

}  // namespace latentd
