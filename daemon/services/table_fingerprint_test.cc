#include "daemon/services/table_fingerprint.h"

#include <catch2/catch.hpp>

#include "routing/assignment.h"

namespace latentd {
namespace {

std::vector<NodeInfo> Nodes() {
  return {{.id = "a", .control_address = "10.0.0.1:7400", .capacity_bytes = 1},
          {.id = "b", .control_address = "10.0.0.2:7400", .capacity_bytes = 1},
          {.id = "c", .control_address = "10.0.0.3:7400", .capacity_bytes = 1}};
}

std::shared_ptr<const RoutingTable> Table(std::vector<NodeInfo> nodes, uint64_t epoch = 1,
                                          uint32_t replicas = 1) {
  auto table = AssignSlots(Epoch{epoch}, std::move(nodes), replicas);
  REQUIRE(table.ok());
  return *table;
}

TEST_CASE("nodes with the same list have the same fingerprint, whatever each knows of itself") {
  const uint64_t fingerprint = TableFingerprint(*Table(Nodes()));
  std::vector<NodeInfo> nodes = Nodes();
  nodes[1].generation = Generation{77};
  std::swap(nodes[0], nodes[2]);
  CHECK(TableFingerprint(*Table(nodes)) == fingerprint);
}

TEST_CASE("another epoch, node, address, weight or number of replicas is another fingerprint") {
  const uint64_t fingerprint = TableFingerprint(*Table(Nodes()));
  CHECK(TableFingerprint(*Table(Nodes(), 2)) != fingerprint);
  CHECK(TableFingerprint(*Table(Nodes(), 1, 2)) != fingerprint);
  std::vector<NodeInfo> nodes = Nodes();
  nodes[1].control_address = "10.0.0.2:7401";
  CHECK(TableFingerprint(*Table(nodes)) != fingerprint);
  nodes = Nodes();
  nodes[1].id = "d";
  CHECK(TableFingerprint(*Table(nodes)) != fingerprint);
  nodes = Nodes();
  nodes[1].capacity_bytes = 2;
  CHECK(TableFingerprint(*Table(nodes)) != fingerprint);
}

TEST_CASE("the fingerprint follows the table, and there is none without a table") {
  TableFingerprints fingerprints;
  CHECK(fingerprints.Of(nullptr) == 0);
  const auto first = Table(Nodes());
  const auto second = Table(Nodes(), 2);
  CHECK(fingerprints.Of(first) == TableFingerprint(*first));
  CHECK(fingerprints.Of(second) == TableFingerprint(*second));
  CHECK(fingerprints.Of(second) == TableFingerprint(*second));
}

}  // namespace
}  // namespace latentd
