// The real coordinator of a large cluster, on an etcd with etcd's bounds.
#include <algorithm>

#include <catch2/catch.hpp>

#include "routing/placement.h"
#include "tests/sim/sim_cluster.h"

namespace latentd::sim {
namespace {

bool Settled(const SimCluster& cluster, size_t nodes, uint32_t replicas) {
  const TablePtr table = cluster.table();
  if (table == nullptr || table->nodes().size() != nodes) return false;
  const PlacementProgress progress = ProgressOf(*table, replicas);
  return progress.joining == 0 && progress.degraded == 0;
}

TEST_CASE("more nodes than a transaction has guards restart together, and all are in the table") {
  const SimClusterOptions options{.nodes = 200, .block_slots = 64};
  SimCluster cluster(options);
  REQUIRE(cluster.Wait([&] { return Settled(cluster, 200, options.replicas); }));
  const Epoch before = cluster.table()->epoch();

  cluster.RestartAll();
  const bool back = cluster.Wait([&] {
    const TablePtr table = cluster.table();
    if (table == nullptr || table->epoch() <= before) return false;
    const auto nodes = table->nodes();
    return std::all_of(nodes.begin(), nodes.end(), [&](const NodeInfo& node) {
      return node.generation == cluster.GenerationOf(node.id);
    });
  });
  for (const std::string& trouble : cluster.troubles()) UNSCOPED_INFO(trouble);
  REQUIRE(back);
  CHECK(cluster.Wait([&] { return Settled(cluster, 200, options.replicas); }));
}

TEST_CASE("a holder that has missed a write copies its slot anew, once") {
  const SimClusterOptions options{.nodes = 8, .block_slots = 64};
  SimCluster cluster(options);
  REQUIRE(cluster.Wait([&] { return Settled(cluster, 8, options.replicas); }));
  const TablePtr before = cluster.table();
  // A slot of two nodes that are entries.
  const auto is_entry = [&](NodeIndex node) { return before->node(node).id.starts_with("node-"); };
  uint32_t number = 0;
  while (!is_entry(before->HoldersOf(Slot{static_cast<uint16_t>(number)})[0]) ||
         !is_entry(before->HoldersOf(Slot{static_cast<uint16_t>(number)})[1])) {
    number += options.block_slots;
    REQUIRE(number < kSlotCount);
  }
  const Slot slot{static_cast<uint16_t>(number)};
  const NodeInfo holder = before->node(before->HoldersOf(slot)[0]);
  const NodeInfo lacks = before->node(before->HoldersOf(slot)[1]);
  cluster.ReportMissed(holder.id, {.node = lacks.id,
                                   .generation = lacks.generation,
                                   .slot = slot,
                                   .placed = before->PlacedOf(slot)});

  REQUIRE(cluster.Wait([&] { return cluster.table() != before; }));
  const TablePtr joining = cluster.table();
  CHECK(joining->Joins(*joining->FindNode(lacks.id), slot));
  CHECK(joining->node(joining->PrimaryOf(slot)).id == holder.id);
  CHECK(joining->GenerationOf(slot) == before->GenerationOf(slot));
  CHECK(ProgressOf(*joining, options.replicas).moving == options.block_slots);
  REQUIRE(cluster.Wait([&] { return Settled(cluster, 8, options.replicas); }));
  // Nothing is left of the word by then, or soon.
  const auto quiet = cluster.now() + absl::Seconds(2);
  REQUIRE(cluster.Wait([&] { return cluster.now() > quiet; }));
  const TablePtr settled = cluster.table();
  CHECK(Settled(cluster, 8, options.replicas));
  const auto later = cluster.now() + absl::Seconds(10);
  REQUIRE(cluster.Wait([&] { return cluster.now() > later; }));
  CHECK(cluster.table() == settled);
}

}  // namespace
}  // namespace latentd::sim
