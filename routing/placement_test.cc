#include "routing/placement.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>

#include <catch2/catch.hpp>

namespace latentd {
namespace {

using TablePtr = std::shared_ptr<const RoutingTable>;

NodeInfo MakeNode(int number, uint64_t generation = 1, NodeState state = NodeState::kActive) {
  const std::string id = "node-" + std::to_string(number);
  return {.id = id,
          .control_address = id + ":7400",
          .generation = Generation{generation},
          .capacity_bytes = 1 << 30,
          .state = state};
}

std::vector<NodeInfo> MakeNodes(int count) {
  std::vector<NodeInfo> nodes;
  for (int i = 0; i < count; ++i) nodes.push_back(MakeNode(i));
  return nodes;
}

bool Never(NodeIndex, Slot, Epoch) { return false; }
bool Always(NodeIndex, Slot, Epoch) { return true; }

TablePtr Next(const TablePtr& previous, std::vector<NodeInfo> nodes, uint32_t replicas,
              const InSync& in_sync = Never) {
  return NextTable(previous, {std::move(nodes), replicas, in_sync}).value();
}

std::set<NodeId> Ids(const RoutingTable& table, std::span<const NodeIndex> nodes) {
  std::set<NodeId> ids;
  for (const NodeIndex node : nodes) ids.insert(table.node(node).id);
  return ids;
}

template <typename F>
void ForEachSlot(F f) {
  for (uint32_t number = 0; number < kSlotCount; ++number) f(Slot{static_cast<uint16_t>(number)});
}

TEST_CASE("the first table gives every slot its holders at once") {
  const TablePtr table = Next(nullptr, MakeNodes(4), 2);
  CHECK(table->epoch() == Epoch{1});
  const PlacementProgress progress = ProgressOf(*table, 2);
  CHECK(progress.joining == 0);
  CHECK(progress.degraded == 0);
  CHECK(ProgressOf(*table, 3).degraded == kSlotCount);
}

TEST_CASE("nothing new is no new table") {
  const TablePtr table = Next(nullptr, MakeNodes(4), 2);
  CHECK(Next(table, MakeNodes(4), 2) == table);
}

TEST_CASE("a node that joins holds nothing before it says that it has everything") {
  const TablePtr before = Next(nullptr, MakeNodes(3), 2);
  const TablePtr joining = Next(before, MakeNodes(4), 2);
  const NodeIndex newcomer = *joining->FindNode("node-3");
  uint32_t slots = 0;
  ForEachSlot([&](Slot slot) {
    REQUIRE(Ids(*joining, joining->HoldersOf(slot)) == Ids(*before, before->HoldersOf(slot)));
    REQUIRE(joining->GenerationOf(slot) == before->GenerationOf(slot));
    REQUIRE(joining->PlacedOf(slot) == Epoch{joining->Joins(newcomer, slot) ? 2U : 1U});
    if (joining->Joins(newcomer, slot)) ++slots;
  });
  CHECK(slots > kSlotCount / 2 * 9 / 10);
  CHECK(slots < kSlotCount / 2 * 11 / 10);
  CHECK(Next(joining, MakeNodes(4), 2) == joining);

  const TablePtr after = Next(joining, MakeNodes(4), 2, Always);
  ForEachSlot([&](Slot slot) {
    REQUIRE(after->JoiningOf(slot).empty());
    REQUIRE(after->HoldersOf(slot).size() == 2);  // the one that was replaced is let go
    REQUIRE(after->Holds(newcomer, slot) == joining->Joins(newcomer, slot));
    REQUIRE(after->GenerationOf(slot) == before->GenerationOf(slot));
  });
}

TEST_CASE("a holder that missed a write holds nothing before it has copied the slot anew") {
  const TablePtr before = Next(nullptr, MakeNodes(3), 2);
  const Slot slot{7};
  const NodeIndex primary = before->PrimaryOf(slot);
  const NodeIndex other = before->HoldersOf(slot)[1];
  PlacementInput input{.nodes = MakeNodes(3), .replicas = 2, .in_sync = Always};
  for (const NodeIndex lacks : {primary, other}) {
    CAPTURE(lacks == primary);
    input.missed = [&](NodeIndex node, Slot of) {
      return node == lacks && of == slot ? std::optional(Epoch{1}) : std::nullopt;
    };
    const TablePtr anew = NextTable(before, input).value();
    CHECK(anew->HoldersOf(slot).size() == 1);
    CHECK_FALSE(anew->Holds(lacks, slot));
    CHECK(anew->Joins(lacks, slot));
    CHECK(anew->PlacedOf(slot) == Epoch{2});
    CHECK(anew->GenerationOf(slot) == before->GenerationOf(slot));
    CHECK(ProgressOf(*anew, 2).joining == 1);

    // The word is of an earlier placement: what it copies now has everything.
    const TablePtr after = NextTable(anew, input).value();
    CHECK(after->HoldersOf(slot).size() == 2);
    CHECK(after->JoiningOf(slot).empty());
  }
}

TEST_CASE("a node that misses a write while it joins has to look again") {
  const TablePtr joining = Next(Next(nullptr, MakeNodes(1), 2), MakeNodes(2), 2);
  const Slot slot{7};
  REQUIRE(joining->Joins(1, slot));
  PlacementInput input{.nodes = MakeNodes(2), .replicas = 2, .in_sync = Never};
  input.missed = [&](NodeIndex node, Slot of) {
    return node == 1 && of == slot ? std::optional(joining->PlacedOf(slot)) : std::nullopt;
  };
  // It has yet to say that it has everything.
  CHECK(NextTable(joining, input).value() == joining);
  input.in_sync = Always;
  const TablePtr again = NextTable(joining, input).value();
  CHECK(again->Joins(1, slot));
  CHECK(again->PlacedOf(slot) == again->epoch());
  CHECK(ProgressOf(*again, 2).joining == 1);
  CHECK(ProgressOf(*NextTable(again, input).value(), 2).joining == 0);
}

TEST_CASE("holders that have all missed something stay: there is nobody to copy from") {
  const TablePtr before = Next(nullptr, MakeNodes(2), 2);
  const PlacementInput input{
      .nodes = MakeNodes(2), .replicas = 2, .in_sync = Never, .missed = [](NodeIndex, Slot) {
        return std::optional(Epoch{1});
      }};
  CHECK(NextTable(before, input).value() == before);
}

TEST_CASE("holders are let go only when every desired one has the bytes") {
  const TablePtr before = Next(nullptr, MakeNodes(2), 2);
  const TablePtr joining = Next(before, MakeNodes(6), 2);
  const auto first_is_ready = [](NodeIndex node, Slot, Epoch) { return node == 2; };
  const TablePtr half = Next(joining, MakeNodes(6), 2, first_is_ready);
  ForEachSlot([&](Slot slot) {
    if (half->JoiningOf(slot).empty()) {
      REQUIRE(half->HoldersOf(slot).size() == 2);
    } else {
      REQUIRE(half->Holds(0, slot));
      REQUIRE(half->Holds(1, slot));
    }
  });
}

TEST_CASE("a slot whose holders all died begins anew with another generation") {
  const TablePtr before = Next(nullptr, MakeNodes(3), 1);
  std::vector<NodeInfo> nodes = MakeNodes(3);
  nodes[1].generation = Generation{2};  // restarted: its memory is another
  const TablePtr after = Next(before, nodes, 1);
  ForEachSlot([&](Slot slot) {
    const bool lost = before->Holds(1, slot);
    REQUIRE(after->GenerationOf(slot) == (lost ? Generation{2} : Generation{1}));
    REQUIRE(after->JoiningOf(slot).empty());
  });
}

TEST_CASE("a restarted node gives its share to the replica and fetches it back") {
  const TablePtr before = Next(nullptr, MakeNodes(3), 2);
  std::vector<NodeInfo> nodes = MakeNodes(3);
  nodes[1].generation = Generation{2};
  const TablePtr after = Next(before, nodes, 2);
  ForEachSlot([&](Slot slot) {
    REQUIRE(after->GenerationOf(slot) == Generation{1});
    if (!before->Holds(1, slot)) return;
    REQUIRE_FALSE(after->Holds(1, slot));
    REQUIRE(after->Joins(1, slot));
  });
  const TablePtr back = Next(after, nodes, 2, Always);
  ForEachSlot([&](Slot slot) {
    REQUIRE(back->JoiningOf(slot).empty());
    for (const NodeIndex node : before->HoldersOf(slot)) REQUIRE(back->Holds(node, slot));
  });
}

TEST_CASE("a draining node answers until others have taken over") {
  const TablePtr before = Next(nullptr, MakeNodes(3), 1);
  std::vector<NodeInfo> nodes = MakeNodes(3);
  nodes[0].state = NodeState::kDraining;
  const TablePtr draining = Next(before, nodes, 1);
  ForEachSlot([&](Slot slot) { REQUIRE(draining->Holds(0, slot) == before->Holds(0, slot)); });
  const TablePtr drained = Next(draining, nodes, 1, Always);
  ForEachSlot([&](Slot slot) { REQUIRE_FALSE(drained->Holds(0, slot)); });
}

// What nodes really have, against what the table says of them.
class Cluster {
 public:
  explicit Cluster(uint32_t seed) : random_(seed), replicas_(1 + random_() % 3) {}

  void Step() {
    Change();
    std::vector<NodeInfo> nodes;
    for (const auto& [number, node] : nodes_) nodes.push_back(node);
    if (nodes.empty()) return;
    const auto in_sync = [&](NodeIndex node, Slot slot, Epoch) {
      return (ToInt(slot) * 31U + node * 7U + salt_) % 4 == 0;
    };
    const auto next = NextTable(table_, {nodes, replicas_, in_sync});
    if (!next.ok()) {  // only when nobody can hold anything
      REQUIRE(absl::IsFailedPrecondition(next.status()));
      return;
    }
    for (uint32_t number = 0; number < kSlotCount; number += 97) {
      Follow(**next, Slot{static_cast<uint16_t>(number)}, in_sync);
    }
    table_ = *next;
  }

 private:
  using Memory = std::pair<NodeId, uint64_t>;

  void Change() {
    salt_ = random_();
    const int number = static_cast<int>(random_() % 6);
    switch (random_() % 4) {
      case 0:
        nodes_.erase(number);
        break;
      case 1:
        nodes_[number] = MakeNode(number, ++generation_);
        break;
      case 2:
        if (nodes_.contains(number)) nodes_[number].state = NodeState::kDraining;
        break;
      default:
        if (nodes_.contains(number)) nodes_[number].state = NodeState::kActive;
    }
  }

  // A holder has the slot's bytes, or the slot is new.
  void Follow(const RoutingTable& next, Slot slot, const InSync& in_sync) {
    std::set<Memory>& have = have_[ToInt(slot)];
    if (table_ != nullptr) {
      for (const NodeIndex node : table_->JoiningOf(slot)) {
        const auto now = next.FindNode(table_->node(node).id);
        if (now && in_sync(*now, slot, table_->PlacedOf(slot)))
          have.insert({table_->node(node).id, ToInt(table_->node(node).generation)});
      }
    }
    const bool anew = table_ == nullptr || next.GenerationOf(slot) != table_->GenerationOf(slot);
    std::set<Memory> living;
    for (const NodeInfo& node : next.nodes()) {
      if (have.contains({node.id, ToInt(node.generation)}))
        living.insert({node.id, ToInt(node.generation)});
    }
    if (anew) {
      if (table_ != nullptr) {
        for (const NodeIndex node : table_->HoldersOf(slot)) {
          INFO("slot " << ToInt(slot) << " began anew while " << table_->node(node).id << " lived");
          REQUIRE_FALSE(
              living.contains({table_->node(node).id, ToInt(table_->node(node).generation)}));
        }
      }
      have.clear();
      for (const NodeIndex node : next.HoldersOf(slot))
        have.insert({next.node(node).id, ToInt(next.node(node).generation)});
    }
    REQUIRE_FALSE(next.HoldersOf(slot).empty());
    for (const NodeIndex node : next.HoldersOf(slot)) {
      INFO("slot " << ToInt(slot) << " is credited to " << next.node(node).id);
      REQUIRE(have.contains({next.node(node).id, ToInt(next.node(node).generation)}));
    }
  }

  std::mt19937 random_;
  const uint32_t replicas_;
  uint32_t salt_ = 0;
  uint64_t generation_ = 0;
  std::map<int, NodeInfo> nodes_;
  TablePtr table_;
  std::map<uint16_t, std::set<Memory>> have_;
};

TEST_CASE("nobody is ever credited with bytes that it does not have") {
  for (uint32_t seed = 1; seed <= 6; ++seed) {
    INFO("seed " << seed);
    Cluster cluster(seed);
    for (int step = 0; step < 25; ++step) cluster.Step();
  }
}

}  // namespace
}  // namespace latentd
