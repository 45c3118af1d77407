#include "daemon/membership/capacity_troubles.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

NodeInfo MakeNode(const std::string& id, uint64_t gib, NodeState state = NodeState::kActive) {
  return {.id = id,
          .control_address = id + ":7400",
          .generation = Generation{1},
          .capacity_bytes = gib << 30,
          .state = state};
}

TEST_CASE("nodes that are alike, or nearly, have no trouble") {
  CHECK(CapacityTroubles(std::vector{MakeNode("a", 80), MakeNode("b", 80)}, 2).empty());
  CHECK(CapacityTroubles(std::vector{MakeNode("a", 80), MakeNode("b", 78)}, 2).empty());
}

TEST_CASE("a node that the others have no room for is named, and by how much") {
  const std::vector nodes = {MakeNode("a", 200), MakeNode("b", 30), MakeNode("c", 50)};
  CHECK(CapacityTroubles(nodes, 1).empty());
  CHECK(CapacityTroubles(nodes, 2) ==
        std::vector<std::string>{"node 'a' can use 80.0 GiB of its 200.0 GiB: the other nodes have "
                                 "no room for the other copies (replicas: 2)"});
}

TEST_CASE("too few nodes for the copies are counted and named") {
  const std::vector nodes = {MakeNode("a", 80), MakeNode("b", 80),
                             MakeNode("c", 80, NodeState::kDraining)};
  CHECK(
      CapacityTroubles(nodes, 3) ==
      std::vector<std::string>{"replicas is 3, and only 2 of the nodes can take slots: 'a', 'b'"});
}

TEST_CASE("small nodes are told of in small units") {
  std::vector nodes = {MakeNode("a", 1), MakeNode("b", 1)};
  nodes[0].capacity_bytes = uint64_t{512} << 20;
  nodes[1].capacity_bytes = uint64_t{16} << 20;
  CHECK(
      CapacityTroubles(nodes, 2).at(0).starts_with("node 'a' can use 16.0 MiB of its 512.0 MiB: "));
}

TEST_CASE("nodes that drain with nobody left to take their slots are named") {
  const NodeInfo a = MakeNode("a", 80, NodeState::kDraining);
  const NodeInfo b = MakeNode("b", 80, NodeState::kDraining);
  CHECK(
      CapacityTroubles(std::vector{a}, 1) ==
      std::vector<std::string>{"'a' drains, and no other node is there to take the slots: a drain "
                               "cannot end"});
  CHECK(CapacityTroubles(std::vector{a, b}, 2).at(0).starts_with("'a', 'b' drain, and "));
  CHECK(CapacityTroubles(std::vector{a, MakeNode("c", 80)}, 1).empty());
}

}  // namespace
}  // namespace latentd
