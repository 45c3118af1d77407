#include "tools/chunk_placer.h"

#include <set>

#include "catch2/catch.hpp"
#include "routing/assignment.h"

namespace latentd {
namespace {

std::shared_ptr<const RoutingTable> ThreeNodes() {
  std::vector<NodeInfo> nodes;
  for (const char* id : {"a", "b", "c"})
    nodes.push_back({.id = id, .control_address = id, .capacity_bytes = 1 << 30});
  return *AssignSlots(Epoch{1}, nodes, 1);
}

TEST_CASE("ids lie on the node that was asked for and never repeat") {
  const auto table = ThreeNodes();
  auto placement = ChunkPlacer::Create(*table, 0, 7);
  REQUIRE(placement.ok());
  REQUIRE(placement->nodes() == 3);
  std::set<ChunkId> seen;
  for (size_t i = 0; i < 300; ++i) {
    const ChunkId id = placement->Draw(i);
    CHECK(table->node(table->PrimaryOf(id.slot())).id == placement->node(i % 3));
    CHECK(seen.insert(id).second);
  }
}

TEST_CASE("some of the nodes will do, more than there are will not") {
  const auto table = ThreeNodes();
  CHECK(ChunkPlacer::Create(*table, 2, 7)->nodes() == 2);
  CHECK(absl::IsFailedPrecondition(ChunkPlacer::Create(*table, 4, 7).status()));
}

}  // namespace
}  // namespace latentd
