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

}  // namespace
}  // namespace latentd
