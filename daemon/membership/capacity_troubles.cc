#include "daemon/membership/capacity_troubles.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "routing/desired_holders.h"
#include "routing/fair_shares.h"

namespace latentd {
namespace {

std::string Size(uint64_t bytes) {
  auto value = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* larger : {"KiB", "MiB", "GiB", "TiB"}) {
    if (value < 1024) break;
    value /= 1024;
    unit = larger;
  }
  return absl::StrFormat("%.1f %s", value, unit);
}

std::string Names(std::span<const NodeInfo> nodes, const std::vector<NodeIndex>& which) {
  return absl::StrJoin(which, ", ", [&](std::string* to, NodeIndex node) {
    absl::StrAppend(to, "'", nodes[node].id, "'");
  });
}

}  // namespace

std::vector<std::string> CapacityTroubles(std::span<const NodeInfo> nodes, uint32_t replicas) {
  const absl::StatusOr<std::vector<NodeIndex>> eligible = EligibleNodes(nodes, replicas);
  if (!eligible.ok()) return {std::string(eligible.status().message())};
  std::vector<std::string> troubles;
  const auto copies = std::min(replicas, static_cast<uint32_t>(eligible->size()));
  const std::string names = Names(nodes, *eligible);
  if (nodes[eligible->front()].state == NodeState::kDraining) {
    troubles.push_back(
        absl::StrCat(names, eligible->size() == 1 ? " drains" : " drain",
                     ", and no other node is there to take the slots: a drain cannot end"));
  }
  if (copies < replicas) {
    troubles.push_back(absl::StrCat("replicas is ", replicas, ", and only ", copies,
                                    " of the nodes can take slots: ", names));
  }
  for (const IdleCapacity& idle : FindIdleCapacity(nodes, *eligible, copies)) {
    const NodeInfo& node = nodes[idle.node];
    if (node.capacity_bytes - idle.usable_bytes < node.capacity_bytes / 10) continue;
    troubles.push_back(absl::StrCat(
        "node '", node.id, "' can use ", Size(idle.usable_bytes), " of its ",
        Size(node.capacity_bytes),
        ": the other nodes have no room for the other copies (replicas: ", replicas, ")"));
  }
  return troubles;
}

}  // namespace latentd
