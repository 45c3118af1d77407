// Dispatcher: which holder is asked.
#include <algorithm>
#include <utility>

#include "client/dispatcher.h"
#include "client/replica_choice.h"

namespace latentd {

bool Dispatcher::IsExcluded(const Work& work, const NodeId& node) {
  return std::find(work.excluded.begin(), work.excluded.end(), node) != work.excluded.end();
}

const absl::Status* Dispatcher::FailedLately(const NodeId& node) const {
  const auto failure = failures_.find(node);
  return failure != failures_.end() && failure->second.until_ns > now_ns_ ? &failure->second.status
                                                                          : nullptr;
}

bool Dispatcher::IsWell(const NodeInfo& node) const {
  // A holder that was just lost may be back, but finding out takes time: others come first.
  if (node.state == NodeState::kDown || path_->InDoubt(node.id)) return false;
  if (FailedLately(node.id) != nullptr) return false;
  const NodeRecord* record = records_.Find(node.id);
  if (record == nullptr) return true;
  // Of who has failed, a session comes first: CallBackLost sees to it.
  return record->Allows(now_ns_) &&
         (record->breaker.failures() == 0 || path_->FindSession(node.id) != nullptr);
}

bool Dispatcher::HasHolder(const Operation& operation, uint32_t item, const Work& work,
                           bool ready) const {
  if (const Holder* fixed = operation.fixed_holder(); fixed != nullptr)
    return !IsExcluded(work, fixed->node);
  if (operation.placement() == Placement::kEveryHolder) return false;
  std::span<const NodeIndex> holders = table_->HoldersOf(operation.SlotOf(item));
  if (operation.placement() == Placement::kPrimary) holders = holders.first(1);
  return std::any_of(holders.begin(), holders.end(), [&](NodeIndex index) {
    const NodeInfo& node = table_->node(index);
    if (IsExcluded(work, node.id)) return false;
    return !ready || (IsWell(node) && path_->FindSession(node.id) != nullptr);
  });
}

bool Dispatcher::HasHolders(const Operation& operation, const Work& work, bool ready) const {
  return std::all_of(work.items.begin(), work.items.end(),
                     [&](uint32_t item) { return HasHolder(operation, item, work, ready); });
}

bool Dispatcher::HasPrimary(const Entry& entry, const Work& work, const NodeId& node) const {
  return std::any_of(work.items.begin(), work.items.end(), [&](uint32_t item) {
    return table_->node(table_->PrimaryOf(entry.operation->SlotOf(item))).id == node;
  });
}

std::optional<Dispatcher::Choice> Dispatcher::ChooseReader(std::span<const NodeIndex> holders,
                                                           Slot slot, const Work& work) {
  Choice choice = {.holders = holders, .node = holders.front()};
  if (holders.size() == 1) {
    if (IsExcluded(work, table_->node(choice.node).id)) return std::nullopt;
    return choice;
  }
  absl::InlinedVector<NodeIndex, 4> well;
  absl::InlinedVector<const LaneLoad*, 4> loads;
  std::optional<NodeIndex> last_resort;
  std::optional<NodeIndex> probe;
  uint32_t left = 0;
  for (const NodeIndex index : holders) {
    const NodeInfo& node = table_->node(index);
    if (IsExcluded(work, node.id)) continue;
    ++left;
    if (!last_resort.has_value()) last_resort = index;
    if (!IsWell(node)) continue;
    const NodeRecord* record = records_.Find(node.id);
    if (record != nullptr && record->breaker.state() == BreakerState::kOpen) {
      // Due for its probe, which costs one bounded retry at worst.
      probe = index;
    }
    const LaneRecord* lane = nullptr;
    if (record != nullptr && path_->FindSession(node.id) != nullptr)
      lane = record->FindLane(path_->LaneOf(node.id, slot));
    well.push_back(index);
    loads.push_back(lane == nullptr ? nullptr : &lane->load);
  }
  if (!last_resort.has_value()) return std::nullopt;
  choice.others = left > 1;
  if (probe.has_value()) {
    choice.node = *probe;
  } else {
    choice.node = well.empty() ? *last_resort : well[ChooseReplica(loads, now_ns_, random_())];
  }
  CallBackLost(holders, choice.node);
  return choice;
}

void Dispatcher::Add(const NodeId& node, uint32_t item, bool others, Parts* parts) {
  auto found =
      std::find_if(parts->begin(), parts->end(), [&](const Part& p) { return *p.node == node; });
  if (found == parts->end()) {
    found = &parts->emplace_back();
    found->node = &node;
    found->others = others;
  }
  found->items.push_back(item);
  found->others = found->others && others;
}

bool Dispatcher::PlaceReads(const Operation& operation, const Work& work, Parts* parts) {
  // Items that share their holders stay together.
  absl::InlinedVector<Choice, 4> choices;
  for (const uint32_t item : work.items) {
    const Slot slot = operation.SlotOf(item);
    const std::span<const NodeIndex> holders = table_->HoldersOf(slot);
    auto found = std::find_if(choices.begin(), choices.end(), [&](const Choice& c) {
      return std::equal(c.holders.begin(), c.holders.end(), holders.begin(), holders.end());
    });
    if (found == choices.end()) {
      const std::optional<Choice> choice = ChooseReader(holders, slot, work);
      if (!choice.has_value()) return false;
      found = choices.insert(choices.end(), *choice);
    }
    Add(table_->node(found->node).id, item, found->others, parts);
  }
  return true;
}

void Dispatcher::PlaceEverywhere(Entry& entry, const Work& work, Parts* parts) {
  for (const uint32_t item : work.items) {
    const std::span<const NodeIndex> holders = table_->HoldersOf(entry.operation->SlotOf(item));
    const bool others = holders.size() > 1;
    const auto bound = std::find_if(holders.begin(), holders.end(), [&](NodeIndex index) {
      return table_->node(index).id == work.at;
    });
    if (bound != holders.end()) {
      Add(table_->node(*bound).id, item, others, parts);
      continue;
    }
    // It is new, or its holder is none any more: to whoever has not been given it.
    auto& given_to = entry.given_to[item];
    for (const NodeIndex index : holders) {
      const NodeId& node = table_->node(index).id;
      if (std::find(given_to.begin(), given_to.end(), node) != given_to.end()) continue;
      given_to.push_back(node);
      Add(node, item, others, parts);
    }
  }
}

bool Dispatcher::Place(Entry& entry, const Work& work, Parts* parts) {
  const Operation& operation = *entry.operation;
  if (const Holder* fixed = operation.fixed_holder(); fixed != nullptr) {
    for (const uint32_t item : work.items) Add(fixed->node, item, false, parts);
    return !IsExcluded(work, fixed->node);
  }
  switch (operation.placement()) {
    case Placement::kAnyHolder:
      return PlaceReads(operation, work, parts);
    case Placement::kEveryHolder:
      PlaceEverywhere(entry, work, parts);
      return true;
    case Placement::kPrimary:
      for (const uint32_t item : work.items) {
        const NodeId& primary = table_->node(table_->PrimaryOf(operation.SlotOf(item))).id;
        if (IsExcluded(work, primary)) return false;
        Add(primary, item, false, parts);
      }
      return true;
  }
  return false;
}

void Dispatcher::CallBackLost(std::span<const NodeIndex> holders, NodeIndex chosen) {
  for (const NodeIndex index : holders) {
    if (index == chosen) continue;
    const NodeId& node = table_->node(index).id;
    if (FailedLately(node) != nullptr) continue;
    const NodeRecord* record = records_.Find(node);
    if (record != nullptr && !record->Allows(now_ns_)) continue;
    // One that may be hedged to has a session by then.
    const bool wanted =
        options_.hedge.quantile > 0 || (record != nullptr && record->breaker.failures() > 0);
    if (path_->DoubtedToken(node).has_value() || (wanted && path_->FindSession(node) == nullptr)) {
      AskForSession(node);
    }
  }
}

}  // namespace latentd
