#include "routing/routing_table.h"

#include <functional>
#include <string>
#include <utility>

#include <catch2/catch.hpp>

namespace latentd {
namespace {

NodeInfo MakeNode(const std::string& id) {
  return {.id = id,
          .control_address = id + ":7400",
          .generation = Generation{7},
          .capacity_bytes = 100};
}

// Three nodes; the first half of the slots is held by a and b, the rest by c, but for slot 50000.
RoutingTableParts Parts() {
  return {.epoch = Epoch{5},
          .nodes = {MakeNode("a"), MakeNode("b"), MakeNode("c")},
          .ranges = {{0, 32768, Generation{1}, {0, 1}},
                     {32768, 17232, Generation{2}, {2}},
                     {50000, 1, Generation{3}, {2}},
                     {50001, 15535, Generation{2}, {2}}}};
}

std::string RefusalAfter(const std::function<void(RoutingTableParts&)>& change) {
  RoutingTableParts parts = Parts();
  change(parts);
  const auto table = RoutingTable::Create(parts);
  REQUIRE_FALSE(table.ok());
  CHECK(table.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(table.status().message());
}

TEST_CASE("a table says the holders, primary first, and the generation of each slot") {
  const auto table = RoutingTable::Create(Parts()).value();
  CHECK(table->epoch() == Epoch{5});
  CHECK(table->nodes().size() == 3);
  for (const uint16_t slot : {0, 1, 32767}) {
    REQUIRE(table->HoldersOf(Slot{slot}).size() == 2);
    CHECK(table->PrimaryOf(Slot{slot}) == 0);
    CHECK(table->HoldersOf(Slot{slot})[1] == 1);
    CHECK(table->GenerationOf(Slot{slot}) == Generation{1});
  }
  for (const uint16_t slot : {32768, 49999, 50001, 65535}) {
    CHECK(table->HoldersOf(Slot{slot}).size() == 1);
    CHECK(table->PrimaryOf(Slot{slot}) == 2);
    CHECK(table->GenerationOf(Slot{slot}) == Generation{2});
  }
  CHECK(table->GenerationOf(Slot{50000}) == Generation{3});
}

TEST_CASE("a node is found by its id") {
  const auto table = RoutingTable::Create(Parts()).value();
  CHECK(table->FindNode("b") == NodeIndex{1});
  CHECK(table->node(1).id == "b");
  CHECK_FALSE(table->FindNode("d").has_value());
  CHECK_FALSE(table->FindNode("").has_value());
}

TEST_CASE("a replica holds a slot but only the primary counts it as its own") {
  const auto table = RoutingTable::Create(Parts()).value();
  CHECK(table->Holds(0, Slot{0}));
  CHECK(table->Holds(1, Slot{0}));
  CHECK_FALSE(table->Holds(2, Slot{0}));
  CHECK(table->SlotsOf(0).size() == 32768);
  CHECK(table->SlotsOf(1).empty());
  CHECK(table->SlotsOf(2).size() == 32768);
  CHECK(table->SlotsOf(2).front() == Slot{32768});
}

TEST_CASE("a table's parts make the same table again") {
  CHECK(RoutingTable::Create(Parts()).value()->ToParts() == Parts());
}

TEST_CASE("equal neighbouring ranges are joined") {
  RoutingTableParts parts = Parts();
  parts.ranges[2].generation = Generation{2};
  const RoutingTableParts joined = RoutingTable::Create(parts).value()->ToParts();
  REQUIRE(joined.ranges.size() == 2);
  CHECK(joined.ranges[1] == SlotRange{32768, 32768, Generation{2}, {2}});
}

TEST_CASE("every slot may have holders and a generation of its own") {
  RoutingTableParts parts = Parts();
  parts.ranges.clear();
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    parts.ranges.push_back({slot, 1, Generation{slot + 1}, {static_cast<NodeIndex>(slot % 3)}});
  }
  const auto table = RoutingTable::Create(parts).value();
  CHECK(table->GenerationOf(Slot{65535}) == Generation{65536});
  CHECK(table->ToParts() == parts);
}

TEST_CASE("tables place alike whatever each node knows of itself, and in whatever order") {
  const auto table = RoutingTable::Create(Parts()).value();
  const auto alike = [&](const std::function<void(RoutingTableParts&)>& change) {
    RoutingTableParts parts = Parts();
    change(parts);
    return SamePlacement(*table, *RoutingTable::Create(parts).value());
  };
  CHECK(alike([](RoutingTableParts& parts) {
    parts.epoch = Epoch{6};
    parts.nodes[1].generation = Generation{};
    parts.nodes[2].capacity_bytes = 1;
    parts.nodes[0].state = NodeState::kDraining;
  }));
  CHECK(alike([](RoutingTableParts& parts) {
    std::swap(parts.nodes[0], parts.nodes[2]);
    for (SlotRange& range : parts.ranges) {
      for (NodeIndex& holder : range.holders) holder = static_cast<NodeIndex>(2 - holder);
    }
  }));
  CHECK_FALSE(alike([](RoutingTableParts& parts) { parts.nodes[1].control_address = "b:1"; }));
  CHECK_FALSE(alike([](RoutingTableParts& parts) { parts.nodes[1].id = "d"; }));
  CHECK_FALSE(alike([](RoutingTableParts& parts) { parts.nodes.push_back(MakeNode("d")); }));
  CHECK_FALSE(alike([](RoutingTableParts& parts) { parts.ranges[2].holders = {1}; }));
  CHECK_FALSE(alike([](RoutingTableParts& parts) { parts.ranges[0].holders = {1, 0}; }));
}

TEST_CASE("a table without epoch or nodes is refused") {
  CHECK(RefusalAfter([](auto& p) { p.epoch = Epoch{0}; }) == "routing table of epoch 0");
  CHECK(RefusalAfter([](auto& p) { p.nodes.clear(); }) == "routing table without nodes");
  CHECK(RefusalAfter([](auto& p) {
          for (uint32_t i = 0; i < kMaxNodes; ++i) {
            p.nodes.push_back(MakeNode("n" + std::to_string(i)));
          }
        }) == "routing table of 16387 nodes; at most 16384 are allowed");
}

TEST_CASE("nodes that cannot be told apart or reached are refused") {
  CHECK(RefusalAfter([](auto& p) { p.nodes[1].id = ""; }) == "routing table has a node without id");
  CHECK(RefusalAfter([](auto& p) { p.nodes[1].id = "a"; }) ==
        "node 'a' is in the routing table twice");
  CHECK(RefusalAfter([](auto& p) { p.nodes[1].control_address = ""; }) ==
        "node 'b' has no control address");
  CHECK(RefusalAfter([](auto& p) { p.nodes[1].control_address = "a:7400"; }) ==
        "nodes 'a' and 'b' have the same control address a:7400");
  CHECK(RefusalAfter([](auto& p) { p.nodes[2].state = NodeState{9}; }) ==
        "node 'c' has unknown state 9");
}

TEST_CASE("gaps, overlaps and slots out of range are refused") {
  CHECK(RefusalAfter([](auto& p) { p.ranges.clear(); }) == "slots from 0 have no holder");
  CHECK(RefusalAfter([](auto& p) { p.ranges.pop_back(); }) == "slots from 50001 have no holder");
  CHECK(RefusalAfter([](auto& p) { p.ranges[1].first_slot = 32769; }) ==
        "slot range starts at 32769, not at 32768");
  CHECK(RefusalAfter([](auto& p) { p.ranges[1].first_slot = 32767; }) ==
        "slot range starts at 32767, not at 32768");
  CHECK(RefusalAfter([](auto& p) { p.ranges[3].slots = 15536; }) ==
        "slot range at 50001 has 15536 slots");
  CHECK(RefusalAfter([](auto& p) { p.ranges[3].slots = ~0u; }) ==
        "slot range at 50001 has 4294967295 slots");
  CHECK(RefusalAfter([](auto& p) { p.ranges[0].slots = 0; }) == "slot range at 0 has 0 slots");
}

TEST_CASE("slots without holders, or with holders that are unknown, repeated or too many, refuse") {
  CHECK(RefusalAfter([](auto& p) { p.ranges[1].holders.clear(); }) ==
        "slots from 32768 have no holder");
  CHECK(RefusalAfter([](auto& p) { p.ranges[1].holders = {3}; }) ==
        "slots from 32768 are held by node number 3 of 3");
  CHECK(RefusalAfter([](auto& p) {
          p.ranges[0].holders = {1, 0, 1};
        }) == "slots from 0 are held twice by node 'b'");
  CHECK(RefusalAfter([](auto& p) { p.ranges[0].holders.assign(17, 0); }) ==
        "slots from 0 have 17 holders; at most 16 are allowed");
}

}  // namespace
}  // namespace latentd
