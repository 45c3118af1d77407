// How a cluster's table grows with its nodes: the real coordinator, a real node that follows, etcd
// and its watches, in simulated time; the other nodes are their entries at etcd, and what they would
// claim. One line of comma-separated values for each number of nodes:
//     bazel run //tests/sim:scale -- 100 1000 10000
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "routing/placement.h"
#include "tests/sim/sim_cluster.h"

namespace latentd::sim {
namespace {

constexpr uint32_t kReplicas = 2;

class Scale {
 public:
  explicit Scale(int nodes) : cluster_({.nodes = nodes, .replicas = kReplicas}) {}

  struct Change {
    double known_ms = 0;    // until the node that follows has the table
    double settled_ms = 0;  // until nobody joins any more
    uint64_t moved = 0;
    uint64_t bytes = 0;  // stored for the first table
  };

  void WaitForFirstTable(size_t nodes) {
    Wait([&] { return cluster_.table() != nullptr && cluster_.table()->nodes().size() == nodes; });
  }
  Change Join(const NodeId& id) {
    return Measure([&] { cluster_.Register(id); });
  }
  Change Die(const NodeId& id) {
    return Measure([&] { cluster_.Revoke(id); });
  }
  v1::TableHead Head() const { return cluster_.Head(); }

 private:
  void Wait(const std::function<bool()>& condition) {
    if (cluster_.Wait(condition)) return;
    std::fprintf(stderr, "nothing comes of it\n");
    for (const std::string& trouble : cluster_.troubles())
      std::fprintf(stderr, "%s\n", trouble.c_str());
    std::exit(1);
  }

  Change Measure(const std::function<void()>& act) {
    const TablePtr before = cluster_.table();
    const v1::TableHead head = Head();
    const absl::Time start = cluster_.now();
    Change change;
    act();
    Wait([&] { return cluster_.table()->nodes().size() != before->nodes().size(); });
    change.known_ms = absl::ToDoubleMilliseconds(cluster_.now() - start);
    const v1::TableHead next = Head();
    change.bytes = next.snapshot_epoch() == head.snapshot_epoch()
                       ? next.delta_bytes() - head.delta_bytes()
                       : next.snapshot_bytes();
    change.moved = ProgressOf(*cluster_.table(), kReplicas).joining;
    Wait([&] { return ProgressOf(*cluster_.table(), kReplicas).joining == 0; });
    change.settled_ms = absl::ToDoubleMilliseconds(cluster_.now() - start);
    return change;
  }

  SimCluster cluster_;
};

void Run(int nodes) {
  Scale scale(nodes);
  scale.WaitForFirstTable(static_cast<size_t>(nodes));
  const uint64_t stored = scale.Head().snapshot_bytes();
  const Scale::Change join = scale.Join("newcomer");
  const double least = 1.0 * kSlotCount * kReplicas / (nodes + 1);
  const Scale::Change death = scale.Die("node-" + std::to_string(nodes / 2));
  std::printf("%d,%llu,%llu,%.0f,%.0f,%llu,%.3f,%llu,%.0f,%.0f,%llu\n", nodes,
              static_cast<unsigned long long>(stored), static_cast<unsigned long long>(join.bytes),
              join.known_ms, join.settled_ms, static_cast<unsigned long long>(join.moved),
              static_cast<double>(join.moved) / least, static_cast<unsigned long long>(death.bytes),
              death.known_ms, death.settled_ms, static_cast<unsigned long long>(death.moved));
  std::fflush(stdout);
}

}  // namespace
}  // namespace latentd::sim

int main(int argc, char** argv) {
  std::printf(
      "nodes,stored_B,join_B,join_known_ms,join_settled_ms,join_moved,join_moved_of_least,death_B,"
      "death_known_ms,death_settled_ms,death_moved\n");
  for (int i = 1; i < argc; ++i) {
    const int nodes = std::atoi(argv[i]);
    if (nodes < 5) return 2;
    latentd::sim::Run(nodes);
  }
}
