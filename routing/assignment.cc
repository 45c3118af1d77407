#include "routing/assignment.h"

#include <algorithm>
#include <optional>
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

std::vector<Candidate> NodesIn(NodeState state, const std::vector<NodeInfo>& nodes) {
  std::vector<Candidate> candidates;
  for (const NodeInfo& node : nodes) {
    if (node.capacity_bytes == 0 || node.state != state) continue;
    candidates.push_back(
        {static_cast<NodeIndex>(&node - nodes.data()), &node, RendezvousSeed(node.id)});
  }
  return candidates;
}

std::vector<Candidate> EligibleNodes(const std::vector<NodeInfo>& nodes) {
  std::vector<Candidate> active = NodesIn(NodeState::kActive, nodes);
  return active.empty() ? NodesIn(NodeState::kDraining, nodes) : active;
}

// The `count` best candidates of a slot, best first. `scratch` only saves allocations.
std::vector<NodeIndex> BestFor(Slot slot, const std::vector<Candidate>& candidates, size_t count,
                               std::vector<std::pair<Bid, const Candidate*>>& scratch) {
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
  std::vector<NodeIndex> best;
  best.reserve(count);
  for (size_t i = 0; i < count; ++i) best.push_back(scratch[i].second->index);
  return best;
}

// Tells which slots hold the same memory as they did in an earlier table.
class MemoryComparison {
 public:
  MemoryComparison(const RoutingTable& previous, const std::vector<NodeInfo>& nodes)
      : previous_(previous) {
    for (const NodeInfo& node : nodes) {
      std::optional<NodeIndex> before = previous.FindNode(node.id);
      if (before && previous.node(*before).generation != node.generation) before.reset();
      index_before_.push_back(before);
    }
  }

  bool Same(Slot slot, const std::vector<NodeIndex>& holders) const {
    return previous_.HoldersOf(slot).size() == holders.size() &&
           std::all_of(holders.begin(), holders.end(), [&](NodeIndex holder) {
             return index_before_[holder] && previous_.Holds(*index_before_[holder], slot);
           });
  }

 private:
  const RoutingTable& previous_;
  std::vector<std::optional<NodeIndex>> index_before_;  // of each node, if its memory is the same
};

}  // namespace

absl::StatusOr<std::shared_ptr<const RoutingTable>> AssignSlots(Epoch epoch,
                                                                std::vector<NodeInfo> nodes,
                                                                uint32_t replicas,
                                                                const RoutingTable* previous) {
  if (replicas == 0 || replicas > kMaxReplicas) {
    return absl::InvalidArgumentError(
        absl::StrCat("replicas is ", replicas, ", not 1 to ", kMaxReplicas));
  }
  if (previous != nullptr && epoch <= previous->epoch()) {
    return absl::InvalidArgumentError(
        absl::StrCat("epoch ", ToInt(epoch), " does not follow epoch ", ToInt(previous->epoch())));
  }
  if (nodes.size() >
      kMaxNodes) {  // NodeIndex must be able to name each before Create looks at them
    return absl::InvalidArgumentError(absl::StrCat("routing table of ", nodes.size(),
                                                   " nodes; at most ", kMaxNodes, " are allowed"));
  }
  const std::vector<Candidate> eligible = EligibleNodes(nodes);
  if (eligible.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "none of ", nodes.size(), " nodes can hold slots: all are down or without capacity"));
  }

  std::optional<MemoryComparison> memory;
  if (previous != nullptr) memory.emplace(*previous, nodes);
  const size_t holders_per_slot = std::min<size_t>(replicas, eligible.size());
  std::vector<SlotRange> ranges;
  std::vector<std::pair<Bid, const Candidate*>> scratch;
  for (uint32_t number = 0; number < kSlotCount; ++number) {
    const Slot slot{static_cast<uint16_t>(number)};
    std::vector<NodeIndex> holders = BestFor(slot, eligible, holders_per_slot, scratch);
    const bool kept = memory && memory->Same(slot, holders);
    const Generation generation = kept ? previous->GenerationOf(slot) : Generation{ToInt(epoch)};
    if (!ranges.empty() && ranges.back().generation == generation &&
        ranges.back().holders == holders) {
      ++ranges.back().slots;
    } else {
      ranges.push_back({number, 1, generation, std::move(holders)});
    }
  }
  return RoutingTable::Create({epoch, std::move(nodes), std::move(ranges)});
}

}  // namespace latentd
