#include "daemon/services/cost_listing.h"

#include <algorithm>
#include <utility>

#include "routing/costs_proto.h"

namespace latentd {

v1::GetCostsResponse ListCosts(v1::NodeCosts own, const Membership& membership,
                               const std::vector<std::string>& ids) {
  std::vector<v1::NodeCosts> all = membership.costs();
  std::erase_if(all, [&](const v1::NodeCosts& node) { return node.node_id() == own.node_id(); });
  all.push_back(std::move(own));
  std::sort(all.begin(), all.end(), [](const v1::NodeCosts& a, const v1::NodeCosts& b) {
    return a.node_id() < b.node_id();
  });
  v1::GetCostsResponse response;
  const TablePtr table = membership.table();
  response.set_every_node(membership.tells_costs() ||
                          (table != nullptr && table->nodes().size() == 1));
  for (v1::NodeCosts& node : all) {
    const bool wanted =
        ids.empty() || std::find(ids.begin(), ids.end(), node.node_id()) != ids.end();
    if (wanted && node.compute_size() + node.links_size() > 0) {
      *response.add_nodes() = std::move(node);
    }
  }
  return response;
}

std::vector<std::string> QuarantinedCosts(const v1::GetCostsResponse& costs,
                                          const RoutingTable* table, absl::Time now) {
  std::vector<std::string> quarantined;
  for (const v1::NodeCosts& node : costs.nodes()) {
    const auto index = table == nullptr ? std::nullopt : table->FindNode(node.node_id());
    const Generation generation = index ? table->node(*index).generation : Generation{};
    for (std::string& line : FromProto(node, now, generation).quarantined) {
      quarantined.push_back(std::move(line));
    }
  }
  return quarantined;
}

}  // namespace latentd
