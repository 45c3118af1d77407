#include "daemon/membership/static_membership.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

StaticMembershipOptions ThreePeers(uint32_t replicas) {
  return {.peers = {{"node-a", "10.0.0.1:7400", 0},
                    {"node-b", "10.0.0.2:7400", 0},
                    {"node-c", "10.0.0.3:7400", 0}},
          .replicas = replicas,
          .epoch = Epoch{4},
          .version = "9.8.7"};
}

NodeInfo Self(const std::string& id) {
  return {.id = id,
          .control_address = "127.0.0.1:1234",
          .generation = Generation{77},
          .capacity_bytes = uint64_t{5} << 30};
}

// Starts it and returns the table that it delivered.
TablePtr Start(StaticMembership& membership, const std::string& self) {
  TablePtr delivered;
  REQUIRE(membership.Start(Self(self), [&](TablePtr table) { delivered = std::move(table); }).ok());
  return delivered;
}

TEST_CASE("a node without peers holds every slot, at the address where it can be reached") {
  StaticMembership membership({});
  CHECK(membership.table() == nullptr);
  CHECK(membership.ListNodes().empty());
  const TablePtr table = Start(membership, "alone");
  REQUIRE(table != nullptr);
  CHECK(membership.table() == table);
  CHECK(table->epoch() == Epoch{1});
  REQUIRE(table->nodes().size() == 1);
  CHECK(table->node(0) == Self("alone"));
  CHECK(table->SlotsOf(0).size() == kSlotCount);
}

TEST_CASE("every daemon makes the same assignment out of the same peers") {
  StaticMembership on_a(ThreePeers(2));
  StaticMembership on_b(ThreePeers(2));
  const TablePtr a = Start(on_a, "node-a");
  const TablePtr b = Start(on_b, "node-b");
  CHECK(a->epoch() == Epoch{4});
  CHECK(a->ToParts().ranges == b->ToParts().ranges);
}

TEST_CASE("peers without capacities share the slots evenly") {
  StaticMembership membership(ThreePeers(1));
  const TablePtr table = Start(membership, "node-c");
  for (NodeIndex node = 0; node < 3; ++node) {
    CHECK(table->SlotsOf(node).size() == Approx(kSlotCount / 3.0).epsilon(0.03));
  }
}

TEST_CASE("a node knows its own generation and nobody else's") {
  StaticMembership membership(ThreePeers(1));
  const TablePtr table = Start(membership, "node-b");
  CHECK(table->node(0).generation == Generation{0});
  CHECK(table->node(1).generation == Generation{77});
  const std::vector<Member> members = membership.ListNodes();
  REQUIRE(members.size() == 3);
  CHECK_FALSE(members[0].heard_from);
  CHECK(members[0].node.capacity_bytes == 0);
  CHECK(members[1].heard_from);
  CHECK(members[1].version == "9.8.7");
  CHECK(members[1].node.capacity_bytes == uint64_t{5} << 30);
  // The list's address, under which the others know it, not the one it happens to listen on.
  CHECK(members[1].node.control_address == "10.0.0.2:7400");
}

TEST_CASE("draining shows in the list of nodes and goes again") {
  StaticMembership membership(ThreePeers(1));
  Start(membership, "node-a");
  membership.SetDraining(true);
  CHECK(membership.ListNodes()[0].node.state == NodeState::kDraining);
  CHECK(membership.ListNodes()[1].node.state == NodeState::kActive);
  membership.SetDraining(false);
  CHECK(membership.ListNodes()[0].node.state == NodeState::kActive);
}

TEST_CASE("peers that do not list the node itself are refused by name") {
  StaticMembership membership(ThreePeers(1));
  const absl::Status status = membership.Start(Self("node-x"), [](const TablePtr&) {});
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(status.message()).find("node-x") != std::string::npos);
}

TEST_CASE("a peer that is listed twice is refused by name") {
  StaticMembershipOptions options = ThreePeers(1);
  options.peers.push_back(options.peers[1]);
  StaticMembership membership(options);
  const absl::Status status = membership.Start(Self("node-a"), [](const TablePtr&) {});
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(status.message()).find("node-b") != std::string::npos);
}

TEST_CASE("more replicas than nodes means every node") {
  StaticMembership membership(ThreePeers(5));
  const TablePtr table = Start(membership, "node-a");
  CHECK(table->HoldersOf(Slot{123}).size() == 3);
}

}  // namespace
}  // namespace latentd
