#include "routing/assignment.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "routing/desired_holders.h"

namespace latentd {
namespace {

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
  if (previous != nullptr && epoch <= previous->epoch()) {
    return absl::InvalidArgumentError(
        absl::StrCat("epoch ", ToInt(epoch), " does not follow epoch ", ToInt(previous->epoch())));
  }
  absl::StatusOr<DesiredHolders> desired = DesiredHolders::Choose(nodes, replicas);
  if (!desired.ok()) return desired.status();

  std::optional<MemoryComparison> memory;
  if (previous != nullptr) memory.emplace(*previous, nodes);
  std::vector<SlotRange> ranges;
  for (uint32_t number = 0; number < kSlotCount; ++number) {
    const Slot slot{static_cast<uint16_t>(number)};
    const std::span<const NodeIndex> best = desired->Of(slot);
    std::vector<NodeIndex> holders(best.begin(), best.end());
    const bool kept = memory && memory->Same(slot, holders);
    const Generation generation = kept ? previous->GenerationOf(slot) : Generation{ToInt(epoch)};
    if (!ranges.empty() && ranges.back().generation == generation &&
        ranges.back().holders == holders) {
      ++ranges.back().slots;
    } else {
      ranges.push_back({number, 1, generation, std::move(holders), {}, epoch});
    }
  }
  return RoutingTable::Create({epoch, std::move(nodes), std::move(ranges)});
}

}  // namespace latentd
