// How a cluster's table grows with its nodes: the real coordinator, a real node that follows, etcd
// and its watches, in simulated time; the other nodes are their entries at etcd, and what they would
// claim. One line of comma-separated values for each number of nodes:
//     bazel run //tests/sim:scale -- 100 1000 10000
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/membership/cluster_keys.h"
#include "daemon/membership/cluster_node.h"
#include "daemon/membership/serving_fence.h"
#include "daemon/membership/slot_claims.h"
#include "proto/latentd/v1/membership.pb.h"
#include "routing/layout_proto.h"
#include "routing/placement.h"
#include "routing/table_proto.h"
#include "tests/sim/sim_etcd.h"
#include "tests/sim/sim_loop.h"

namespace latentd::sim {
namespace {

constexpr uint32_t kReplicas = 2;
constexpr int kRealNodes = 2;
constexpr absl::Duration kStep = absl::Milliseconds(1);
constexpr absl::Duration kPatience = absl::Seconds(60);

v1::Layout ScaleLayout() {
  Layout layout;
  layout.model = "scale";
  layout.layers = 1;
  return ToProto(layout);
}

NodeInfo MakeNode(const std::string& id) {
  return {.id = id,
          .control_address = id + ".example:7400",
          .generation = Generation{std::hash<std::string>{}(id) | 1},
          .capacity_bytes = uint64_t{80} << 30};
}

class Scale {
 public:
  explicit Scale(int nodes) : etcd_(&loop_, 1, 1.0) {
    for (int i = kRealNodes; i < nodes; ++i) Register("node-" + std::to_string(i));
    for (int i = 0; i < kRealNodes; ++i) reals_.push_back(std::make_unique<Real>(this, i));
  }

  struct Change {
    double known_ms = 0;    // until the node that follows has the table
    double settled_ms = 0;  // until nobody joins any more
    uint64_t moved = 0;
    uint64_t bytes = 0;  // stored for the first table
  };

  void WaitForFirstTable(size_t nodes) {
    Wait([&] { return table() != nullptr && table()->nodes().size() == nodes; });
  }
  Change Join(const std::string& id) {
    return Measure([&] { Register(id); });
  }
  Change Die(const std::string& id) {
    return Measure([&] { (void)etcd_.Revoke(leases_.at(id)); });
  }
  v1::TableHead Head() const {
    v1::TableHead head;
    (void)head.ParseFromString(etcd_.entries().at(keys_.Head()).value);
    return head;
  }

 private:
  struct Real {
    Real(Scale* scale, int index)
        : clock(&scale->loop_, 1),
          etcd(&scale->loop_, &scale->etcd_, &clock, &scale->link_, index) {
      ClusterNodeOptions options;
      options.self = MakeNode("real-" + std::to_string(index));
      options.cluster = "scale";
      options.layout = ScaleLayout();
      options.replicas = kReplicas;
      options.seed = static_cast<uint64_t>(index);
      member = std::make_unique<ClusterNode>(
          &etcd, &clock, options, &fence,
          ClusterNode::Callbacks{.on_table =
                                     [scale, this](const TablePtr& table) {
                                       scale->Claim(*this, *table);
                                       if (this == scale->reals_.back().get()) {
                                         scale->ClaimForOthers(*table);
                                       }
                                     },
                                 .on_change = [] {}});
      member->Start();
    }
    SimClock clock;
    SimEtcdClient etcd;
    ServingFence fence;
    std::unique_ptr<ClusterNode> member;
  };

  TablePtr table() const { return reals_.back()->member->table(); }

  // Copying takes no time here: what it takes is the nodes' business, and they do it side by side.
  static absl::Duration Soon(size_t i) { return absl::Milliseconds(20 + i * 37 % 250); }

  static std::map<NodeIndex, std::vector<SlotClaim>> ClaimsIn(const RoutingTable& table) {
    std::map<NodeIndex, std::vector<SlotClaim>> claims;
    for (uint32_t number = 0; number < kSlotCount; ++number) {
      const Slot slot{static_cast<uint16_t>(number)};
      for (const NodeIndex node : table.JoiningOf(slot)) {
        claims[node].push_back({slot, table.PlacedOf(slot)});
      }
    }
    return claims;
  }

  void Claim(Real& real, const RoutingTable& table) {
    for (auto& [node, claims] : ClaimsIn(table)) {
      if (table.node(node).id != "real-" + std::to_string(&real == reals_.back().get())) continue;
      real.clock.After(Soon(node), [&real, claims = claims] { real.member->Claim(claims); });
    }
  }

  void ClaimForOthers(const RoutingTable& table) {
    for (auto& [node, claims] : ClaimsIn(table)) {
      const NodeInfo& info = table.node(node);
      const auto lease = leases_.find(info.id);
      if (lease == leases_.end()) continue;
      SlotClaimSet set(info.generation);
      set.Add(claims);
      loop_.After(Soon(node), [this, id = info.id, lease = lease->second, value = set.Pack()] {
        EtcdTransaction transaction;
        transaction.writes.push_back({.key = keys_.Claims(id), .value = value, .lease = lease});
        (void)etcd_.Commit(transaction);
      });
    }
  }

  void Register(const std::string& id) {
    v1::NodeRegistration registration;
    *registration.mutable_node() = ToProto(MakeNode(id));
    *registration.mutable_layout() = ScaleLayout();
    registration.set_lanes(1);
    leases_[id] = etcd_.Grant(absl::Hours(24)).lease;
    EtcdTransaction transaction;
    transaction.writes.push_back(
        {.key = keys_.Node(id), .value = registration.SerializeAsString(), .lease = leases_[id]});
    (void)etcd_.Commit(transaction);
  }

  template <typename Condition>
  void Wait(Condition condition) {
    const absl::Time end = loop_.now() + kPatience;
    while (!condition()) {
      if (loop_.now() > end) {
        std::fprintf(stderr, "nothing comes of it\n");
        for (const std::string& trouble : reals_.back()->member->status().troubles)
          std::fprintf(stderr, "%s\n", trouble.c_str());
        std::exit(1);
      }
      loop_.RunUntil(loop_.now() + kStep);
    }
  }

  template <typename Act>
  Change Measure(Act act) {
    const TablePtr before = table();
    const v1::TableHead head = Head();
    const absl::Time start = loop_.now();
    Change change;
    act();
    Wait([&] { return table()->nodes().size() != before->nodes().size(); });
    change.known_ms = absl::ToDoubleMilliseconds(loop_.now() - start);
    const v1::TableHead next = Head();
    change.bytes = next.snapshot_epoch() == head.snapshot_epoch()
                       ? next.delta_bytes() - head.delta_bytes()
                       : next.snapshot_bytes();
    change.moved = ProgressOf(*table(), kReplicas).joining;
    Wait([&] { return ProgressOf(*table(), kReplicas).joining == 0; });
    change.settled_ms = absl::ToDoubleMilliseconds(loop_.now() - start);
    return change;
  }

  const ClusterKeys keys_{"scale"};
  SimLoop loop_;
  SimEtcd etcd_;
  SimEtcdLink link_;
  std::map<std::string, EtcdLease> leases_;
  std::vector<std::unique_ptr<Real>> reals_;
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
