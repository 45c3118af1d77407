#include "routing/assignment.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include <catch2/catch.hpp>

namespace latentd {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

using TablePtr = std::shared_ptr<const RoutingTable>;

NodeInfo MakeNode(const std::string& id, uint64_t capacity_bytes = 60 * kGiB,
                  NodeState state = NodeState::kActive) {
  return {.id = id,
          .control_address = id + ":7400",
          .generation = Generation{1},
          .capacity_bytes = capacity_bytes,
          .state = state};
}

std::vector<NodeInfo> MakeNodes(int count) {
  std::vector<NodeInfo> nodes;
  for (int i = 0; i < count; ++i) nodes.push_back(MakeNode("node-" + std::to_string(i)));
  return nodes;
}

TablePtr Assign(std::vector<NodeInfo> nodes, uint32_t replicas = 1) {
  return AssignSlots(Epoch{1}, std::move(nodes), replicas).value();
}

std::vector<NodeId> HolderIds(const RoutingTable& table, uint32_t slot) {
  std::vector<NodeId> ids;
  for (const NodeIndex holder : table.HoldersOf(Slot(slot))) ids.push_back(table.node(holder).id);
  return ids;
}

// Slots by primary.
std::map<NodeId, double> PrimaryShares(const RoutingTable& table) {
  std::map<NodeId, double> shares;
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    shares[HolderIds(table, slot)[0]] += 1.0 / kSlotCount;
  }
  return shares;
}

// `after` is `before` without `gone`: each slot's other holders are the first of their old order.
bool OnlySlotsOfMoved(const RoutingTable& before, const RoutingTable& after, const NodeId& gone) {
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    std::vector<NodeId> rest = HolderIds(before, slot);
    const bool held = std::erase(rest, gone) > 0;
    std::vector<NodeId> now = HolderIds(after, slot);
    if (held && !now.empty() && now.size() > rest.size()) now.resize(rest.size());
    if (now != rest) return false;
  }
  return true;
}

TEST_CASE("every slot has as many distinct holders as asked for") {
  const TablePtr table = Assign(MakeNodes(5), 3);
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    const std::vector<NodeId> holders = HolderIds(*table, slot);
    REQUIRE(std::set<NodeId>(holders.begin(), holders.end()).size() == 3);
  }
}

TEST_CASE("more replicas than nodes means every node holds every slot") {
  const TablePtr table = Assign(MakeNodes(2), 3);
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    REQUIRE(table->HoldersOf(Slot(slot)).size() == 2);
  }
}

TEST_CASE("one node's table is one range") {
  CHECK(Assign(MakeNodes(1))->ToParts().ranges.size() == 1);
}

TEST_CASE("primaries are shared out by capacity within five standard deviations") {
  const std::vector<std::vector<uint64_t>> clusters = {
      {1, 1}, {1, 2, 3}, {60 * kGiB, 60 * kGiB, 20 * kGiB}, {5, 5, 5, 5, 5, 5, 5, 1}};
  for (const std::vector<uint64_t>& capacities : clusters) {
    std::vector<NodeInfo> nodes;
    double total = 0;
    for (const uint64_t capacity : capacities) {
      nodes.push_back(MakeNode("host" + std::to_string(nodes.size()), capacity));
      total += static_cast<double>(capacity);
    }
    std::map<NodeId, double> shares = PrimaryShares(*Assign(nodes, 2));
    for (const NodeInfo& node : nodes) {
      const double expected = static_cast<double>(node.capacity_bytes) / total;
      const double deviation = std::sqrt(expected * (1 - expected) / kSlotCount);
      CHECK(std::abs(shares[node.id] - expected) < 5 * deviation);
    }
  }
}

TEST_CASE("a hundred equal nodes each get within a fifth of the mean, replicas counted") {
  const TablePtr table = Assign(MakeNodes(100), 2);
  std::map<NodeId, int> held;
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    for (const NodeId& id : HolderIds(*table, slot)) ++held[id];
  }
  REQUIRE(held.size() == 100);
  const double mean = 2.0 * kSlotCount / 100;
  for (const auto& [id, slots] : held) CHECK(std::abs(slots - mean) < 0.2 * mean);
}

TEST_CASE("a node that leaves gives only its own slots away, and one that joins only takes") {
  for (const uint32_t replicas : {1u, 2u, 3u}) {
    const TablePtr seven = Assign(MakeNodes(7), replicas);
    std::vector<NodeInfo> nodes = MakeNodes(7);
    nodes.erase(nodes.begin() + 3);
    const TablePtr six = Assign(nodes, replicas);
    CHECK(OnlySlotsOfMoved(*seven, *six, "node-3"));
    int taken = 0;
    for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
      const std::vector<NodeId> holders = HolderIds(*seven, slot);
      taken += std::count(holders.begin(), holders.end(), "node-3");
    }
    const double fair = 1.0 * replicas * kSlotCount / 7;
    CHECK(std::abs(taken - fair) < 0.05 * fair);
  }
}

TEST_CASE("a node that grows only takes slots, and no more than its greater share") {
  const TablePtr before = Assign(MakeNodes(4));
  std::vector<NodeInfo> nodes = MakeNodes(4);
  nodes[1].capacity_bytes *= 2;
  const TablePtr after = Assign(nodes);
  int moved = 0;
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    if (HolderIds(*before, slot) == HolderIds(*after, slot)) continue;
    REQUIRE(HolderIds(*after, slot)[0] == "node-1");
    ++moved;
  }
  const double expected = (2.0 / 5 - 1.0 / 4) * kSlotCount;
  CHECK(std::abs(moved - expected) < 0.05 * expected);
}

TEST_CASE("scaling every capacity alike moves nothing") {
  std::vector<NodeInfo> nodes = MakeNodes(5);
  for (size_t i = 0; i < nodes.size(); ++i) nodes[i].capacity_bytes = i + 1;
  const RoutingTableParts small = Assign(nodes, 2)->ToParts();
  for (NodeInfo& node : nodes) node.capacity_bytes *= 1000 * kGiB;
  CHECK(Assign(nodes, 2)->ToParts().ranges == small.ranges);
}

TEST_CASE("the order in which nodes are listed does not matter") {
  std::vector<NodeInfo> nodes = MakeNodes(6);
  const TablePtr forward = Assign(nodes, 2);
  std::reverse(nodes.begin(), nodes.end());
  const TablePtr backward = Assign(nodes, 2);
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    REQUIRE(HolderIds(*forward, slot) == HolderIds(*backward, slot));
  }
}

// Two builds that disagree would send queries to nodes that do not hold the chunks.
TEST_CASE("the assignment never changes between builds") {
  std::vector<NodeInfo> nodes = MakeNodes(7);
  for (size_t i = 0; i < nodes.size(); ++i) nodes[i].capacity_bytes = (20 + 10 * i) * kGiB;
  const TablePtr table = Assign(nodes, 3);
  std::string holders;
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    for (const NodeIndex holder : table->HoldersOf(Slot(slot))) {
      holders.push_back(static_cast<char>(holder));
    }
  }
  CHECK(XXH3_64bits(holders.data(), holders.size()) == 0x748c11debc0eb996);
}

TEST_CASE("draining and down nodes, and nodes without capacity, get no slots while others exist") {
  const std::vector<NodeInfo> nodes = {MakeNode("a"), MakeNode("b", kGiB, NodeState::kDraining),
                                       MakeNode("c", kGiB, NodeState::kDown), MakeNode("d", 0),
                                       MakeNode("e", kGiB)};
  const TablePtr table = Assign(nodes, 3);
  CHECK(table->nodes().size() == 5);
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    std::vector<NodeId> holders = HolderIds(*table, slot);
    std::sort(holders.begin(), holders.end());
    REQUIRE(holders == std::vector<NodeId>{"a", "e"});
  }
}

TEST_CASE("if every node drains, the draining nodes hold the slots") {
  const TablePtr table =
      Assign({MakeNode("a", kGiB, NodeState::kDraining), MakeNode("b", kGiB, NodeState::kDown)});
  CHECK(HolderIds(*table, 0) == std::vector<NodeId>{"a"});
}

TEST_CASE("no node that can hold slots is a failed precondition") {
  const auto table = AssignSlots(Epoch{1}, {MakeNode("a", kGiB, NodeState::kDown)}, 1);
  CHECK(table.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(AssignSlots(Epoch{1}, {}, 1).status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("bad replica counts, epochs and nodes are refused") {
  CHECK(AssignSlots(Epoch{1}, MakeNodes(2), 0).status().message() == "replicas is 0, not 1 to 16");
  CHECK(AssignSlots(Epoch{1}, MakeNodes(2), 17).status().message() ==
        "replicas is 17, not 1 to 16");
  CHECK(AssignSlots(Epoch{0}, MakeNodes(2), 1).status().message() == "routing table of epoch 0");
  const TablePtr first = Assign(MakeNodes(2));
  CHECK(AssignSlots(Epoch{1}, MakeNodes(2), 1, first.get()).status().message() ==
        "epoch 1 does not follow epoch 1");
  CHECK(AssignSlots(Epoch{1}, {MakeNode("a"), MakeNode("a")}, 1).status().message() ==
        "node 'a' is in the routing table twice");
  CHECK(AssignSlots(Epoch{1}, MakeNodes(70000), 1).status().message() ==
        "routing table of 70000 nodes; at most 16384 are allowed");
}

TEST_CASE("a slot's generation is that of the epoch at which its memory last changed") {
  const TablePtr first = AssignSlots(Epoch{1}, MakeNodes(4), 2).value();
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    REQUIRE(first->GenerationOf(Slot(slot)) == Generation{1});
  }

  std::vector<NodeInfo> nodes = MakeNodes(4);
  nodes[2].generation = Generation{2};  // restarted: its bytes are gone
  const TablePtr second = AssignSlots(Epoch{2}, nodes, 2, first.get()).value();
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    const Generation expected{first->Holds(2, Slot(slot)) ? uint64_t{2} : uint64_t{1}};
    REQUIRE(second->GenerationOf(Slot(slot)) == expected);
  }

  std::reverse(nodes.begin(), nodes.end());  // nothing but the order of listing changes
  const TablePtr third = AssignSlots(Epoch{3}, nodes, 2, second.get()).value();
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    REQUIRE(third->GenerationOf(Slot(slot)) == second->GenerationOf(Slot(slot)));
  }

  nodes.erase(nodes.begin());  // node-3 leaves: the slots that it held have a new holder
  const TablePtr fourth = AssignSlots(Epoch{4}, nodes, 2, third.get()).value();
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    const Generation expected =
        third->Holds(0, Slot(slot)) ? Generation{4} : third->GenerationOf(Slot(slot));
    REQUIRE(fourth->GenerationOf(Slot(slot)) == expected);
  }
}

}  // namespace
}  // namespace latentd
