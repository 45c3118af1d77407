#include "routing/desired_holders.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "routing/rendezvous.h"

namespace latentd {
namespace {

struct Candidate {
  NodeIndex index = 0;
  const NodeInfo* node = nullptr;
  uint64_t seed = 0;
};

std::vector<NodeIndex> NodesIn(NodeState state, std::span<const NodeInfo> nodes) {
  std::vector<NodeIndex> found;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].capacity_bytes == 0 || nodes[i].state != state) continue;
    found.push_back(static_cast<NodeIndex>(i));
  }
  return found;
}

// Appends the `count` best candidates of a slot, best first. `scratch` only saves allocations.
void AppendBest(Slot slot, const std::vector<Candidate>& candidates, size_t count,
                std::vector<std::pair<Bid, const Candidate*>>& scratch,
                std::vector<NodeIndex>& into) {
  scratch.clear();
  for (const Candidate& candidate : candidates) {
    scratch.emplace_back(MakeBid(candidate.seed, slot, candidate.node->capacity_bytes), &candidate);
  }
  const auto better = [](const auto& a, const auto& b) {
    if (Beats(a.first, b.first)) return true;
    if (Beats(b.first, a.first)) return false;
    return a.second->node->id < b.second->node->id;
  };
  std::partial_sort(scratch.begin(), scratch.begin() + static_cast<std::ptrdiff_t>(count),
                    scratch.end(), better);
  for (size_t i = 0; i < count; ++i) into.push_back(scratch[i].second->index);
}

}  // namespace

absl::StatusOr<std::vector<NodeIndex>> EligibleNodes(std::span<const NodeInfo> nodes,
                                                     uint32_t replicas) {
  if (replicas == 0 || replicas > kMaxReplicas) {
    return absl::InvalidArgumentError(
        absl::StrCat("replicas is ", replicas, ", not 1 to ", kMaxReplicas));
  }
  if (nodes.size() > kMaxNodes) {
    return absl::InvalidArgumentError(absl::StrCat("routing table of ", nodes.size(),
                                                   " nodes; at most ", kMaxNodes, " are allowed"));
  }
  std::vector<NodeIndex> eligible = NodesIn(NodeState::kActive, nodes);
  if (eligible.empty()) eligible = NodesIn(NodeState::kDraining, nodes);
  if (eligible.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "none of ", nodes.size(), " nodes can hold slots: all are down or without capacity"));
  }
  return eligible;
}

absl::StatusOr<DesiredHolders> DesiredHolders::Choose(std::span<const NodeInfo> nodes,
                                                      uint32_t replicas) {
  const absl::StatusOr<std::vector<NodeIndex>> eligible = EligibleNodes(nodes, replicas);
  if (!eligible.ok()) return eligible.status();
  std::vector<Candidate> candidates;
  for (const NodeIndex index : *eligible) {
    candidates.push_back({index, &nodes[index], RendezvousSeed(nodes[index].id)});
  }
  const size_t per_slot = std::min<size_t>(replicas, candidates.size());
  std::vector<NodeIndex> holders;
  holders.reserve(per_slot * kSlotCount);
  std::vector<std::pair<Bid, const Candidate*>> scratch;
  for (uint32_t number = 0; number < kSlotCount; ++number) {
    AppendBest(Slot{static_cast<uint16_t>(number)}, candidates, per_slot, scratch, holders);
  }
  return DesiredHolders(static_cast<uint32_t>(per_slot), 1, std::move(holders));
}

}  // namespace latentd
