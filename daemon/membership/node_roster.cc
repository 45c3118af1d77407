#include "daemon/membership/node_roster.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "routing/table_proto.h"

namespace latentd {
namespace {

std::string Describe(const v1::Layout& layout) {
  return absl::StrFormat("%s %s (layout %016x)", layout.model(), layout.record(), layout.hash());
}

// Since when each address has been given by whoever was the first to give it.
using FirstAtAddress = absl::flat_hash_map<std::string_view, int64_t>;

FirstAtAddress FindFirstAtAddress(const Roster& roster) {
  FirstAtAddress first;
  for (const RosterNode& node : roster.nodes) {
    const auto [known, fresh] = first.emplace(node.node.control_address, node.since_revision);
    if (!fresh) known->second = std::min(known->second, node.since_revision);
  }
  return first;
}

// Empty: it can be in the table.
std::string WhyNot(const RosterNode& node, const FirstAtAddress& first, const v1::Layout& layout) {
  if (node.layout.hash() != layout.hash()) {
    return absl::StrCat("holds ", Describe(node.layout), "; the cluster holds ", Describe(layout));
  }
  if (node.node.control_address.empty()) return "has no control address";
  if (ToInt(node.node.generation) == 0) return "has no generation";
  if (first.at(node.node.control_address) < node.since_revision) {
    return absl::StrCat("gives the address ", node.node.control_address,
                        ", which another node had before");
  }
  return {};
}

}  // namespace

Roster ReadRoster(const EtcdEntries& entries, const ClusterKeys& keys) {
  Roster roster;
  for (const auto& [key, entry] : entries) {
    const std::string id = key.substr(keys.Nodes().size());
    v1::NodeRegistration registration;
    if (!registration.ParseFromString(entry.value) || registration.node().id() != id) {
      roster.troubles.push_back(absl::StrCat("node '", id, "': its entry in etcd is damaged"));
      continue;
    }
    const absl::StatusOr<NodeInfo> node = FromProto(registration.node());
    if (!node.ok()) {
      roster.troubles.push_back(absl::StrCat("node '", id, "': ", node.status().message()));
      continue;
    }
    roster.nodes.push_back({.node = *node,
                            .layout = registration.layout(),
                            .version = registration.node().version(),
                            .known_epoch = Epoch{registration.known_epoch()},
                            .known_chain = registration.known_chain(),
                            .since_revision = entry.create_revision});
  }
  return roster;
}

AdmittedNodes AdmitNodes(const Roster& roster, const RoutingTable* before,
                         const v1::Layout& layout) {
  AdmittedNodes admitted{.nodes = {}, .troubles = roster.troubles};
  absl::flat_hash_map<std::string, size_t> place_of;  // in the table before
  if (before != nullptr) {
    for (size_t i = 0; i < before->nodes().size(); ++i) place_of.emplace(before->nodes()[i].id, i);
  }
  const FirstAtAddress first = FindFirstAtAddress(roster);
  std::vector<std::pair<size_t, const NodeInfo*>> placed;
  for (const RosterNode& node : roster.nodes) {
    if (const std::string why = WhyNot(node, first, layout); !why.empty()) {
      admitted.troubles.push_back(absl::StrCat("node '", node.node.id, "' ", why));
      continue;
    }
    const auto place = place_of.find(node.node.id);
    placed.emplace_back(place == place_of.end() ? place_of.size() : place->second, &node.node);
  }
  std::stable_sort(placed.begin(), placed.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [place, node] : placed) {
    if (admitted.nodes.size() == kMaxNodes) {
      admitted.troubles.push_back(
          absl::StrCat("node '", node->id, "' is one too many: a table has ", kMaxNodes));
      continue;
    }
    admitted.nodes.push_back(*node);
  }
  return admitted;
}

}  // namespace latentd
