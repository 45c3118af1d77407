#include "tools/node_costs.h"

#include "absl/strings/str_cat.h"
#include "tools/admin_calls.h"

namespace latentd {
namespace {

absl::StatusOr<v1::GetCostsResponse> Ask(const NodeInfo& node, const TlsFiles& tls,
                                         absl::Duration timeout) {
  const auto calls = AdminCalls::Create(node.control_address, tls, timeout);
  if (!calls.ok()) return calls.status();
  return (*calls)->GetCosts();
}

}  // namespace

NodeCostsAnswers AskNodesForCosts(const RoutingTable& table, const TlsFiles& tls,
                                  absl::Duration timeout) {
  NodeCostsAnswers answers;
  for (const NodeInfo& node : table.nodes()) {
    const absl::StatusOr<v1::GetCostsResponse> response = Ask(node, tls, timeout);
    if (!response.ok()) {
      answers.silent.push_back(
          absl::StrCat(node.id, " does not say what it costs: ", response.status().ToString()));
      continue;
    }
    for (const v1::NodeCosts& costs : response->nodes()) {
      if (costs.node_id() == node.id) answers.costs.push_back(costs);
    }
  }
  return answers;
}

}  // namespace latentd
