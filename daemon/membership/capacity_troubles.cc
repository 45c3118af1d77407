#include "daemon/membership/capacity_troubles.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "routing/desired_holders.h"
#include "routing/fair_shares.h"

namespace latentd {
namespace {

std::string InGib(uint64_t bytes) {
  return absl::StrFormat("%.1f GiB", static_cast<double>(bytes) / (1 << 30));
}

}  // namespace

std::vector<std::string> CapacityTroubles(std::span<const NodeInfo> nodes, uint32_t replicas) {
  const absl::StatusOr<std::vector<NodeIndex>> eligible = EligibleNodes(nodes, replicas);
  if (!eligible.ok()) return {std::string(eligible.status().message())};
  std::vector<std::string> troubles;
  const auto copies = std::min(replicas, static_cast<uint32_t>(eligible->size()));
  if (copies < replicas) {
    std::string names;
    for (const NodeIndex node : *eligible) {
      absl::StrAppend(&names, names.empty() ? "'" : ", '", nodes[node].id, "'");
    }
    troubles.push_back(absl::StrCat("replicas is ", replicas, ", and only ", copies,
                                    " of the nodes can take slots: ", names));
  }
  for (const IdleCapacity& idle : FindIdleCapacity(nodes, *eligible, copies)) {
    const NodeInfo& node = nodes[idle.node];
    if (node.capacity_bytes - idle.usable_bytes < node.capacity_bytes / 10) continue;
    troubles.push_back(absl::StrCat(
        "node '", node.id, "' can use ", InGib(idle.usable_bytes), " of its ",
        InGib(node.capacity_bytes),
        ": the other nodes have no room for the other copies (replicas: ", replicas, ")"));
  }
  return troubles;
}

}  // namespace latentd
