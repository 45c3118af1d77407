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

}  // namespace
}  // namespace latentd::sim
