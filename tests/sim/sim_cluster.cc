#include "tests/sim/sim_cluster.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "routing/layout_proto.h"
#include "routing/table_proto.h"

namespace latentd::sim {
namespace {

constexpr absl::Duration kStep = absl::Milliseconds(1);
constexpr absl::Duration kPatience = absl::Seconds(60);

v1::Layout SimLayout() {
  Layout layout;
  layout.model = "sim";
  layout.layers = 1;
  return ToProto(layout);
}

NodeId RealName(int index) { return absl::StrCat("real-", index); }

absl::Duration Soon(size_t i) { return absl::Milliseconds(20 + i * 37 % 250); }

std::map<NodeIndex, std::vector<SlotClaim>> ClaimsIn(const RoutingTable& table) {
  std::map<NodeIndex, std::vector<SlotClaim>> claims;
  for (uint32_t number = 0; number < kSlotCount; ++number) {
    const Slot slot{static_cast<uint16_t>(number)};
    for (const NodeIndex node : table.JoiningOf(slot)) {
      claims[node].push_back({slot, table.PlacedOf(slot)});
    }
  }
  return claims;
}

}  // namespace

struct SimCluster::Real {
  Real(SimCluster* cluster, int index)
      : id(RealName(index)),
        clock(&cluster->loop_, 1),
        etcd(&cluster->loop_, &cluster->etcd_, &clock, &cluster->link_, index) {
    ClusterNodeOptions options;
    options.self = cluster->MakeNode(id);
    options.cluster = "sim";
    options.layout = SimLayout();
    options.replicas = cluster->options_.replicas;
    options.block_slots = cluster->options_.block_slots;
    options.seed = static_cast<uint64_t>(index);
    member = std::make_unique<ClusterNode>(
        &etcd, &clock, options, &fence,
        ClusterNode::Callbacks{.on_table =
                                   [cluster, this](const TablePtr& table) {
                                     cluster->Claim(*this, *table);
                                     if (this == cluster->reals_.back().get()) {
                                       cluster->ClaimForOthers(*table);
                                     }
                                   },
                               .on_change = [] {}});
    member->Start();
  }

  const NodeId id;
  SimClock clock;
  SimEtcdClient etcd;
  ServingFence fence;
  std::unique_ptr<ClusterNode> member;
};

SimCluster::SimCluster(SimClusterOptions options)
    : options_(options), etcd_(&loop_, 1, 1.0), reals_(kRealNodes) {
  for (int i = kRealNodes; i < options.nodes; ++i) Register(absl::StrCat("node-", i));
  for (int i = 0; i < kRealNodes; ++i) StartReal(i);
}

SimCluster::~SimCluster() = default;

NodeInfo SimCluster::MakeNode(const NodeId& id) {
  generations_[id] = Generation{next_generation_++};
  return {.id = id,
          .control_address = id + ".example:7400",
          .generation = generations_[id],
          .capacity_bytes = uint64_t{80} << 30};
}

void SimCluster::StartReal(int index) { reals_[index] = std::make_unique<Real>(this, index); }

void SimCluster::Register(const NodeId& id) {
  v1::NodeRegistration registration;
  *registration.mutable_node() = ToProto(MakeNode(id));
  *registration.mutable_layout() = SimLayout();
  registration.set_lanes(1);
  leases_[id] = etcd_.Grant(absl::Hours(24)).lease;
  EtcdTransaction transaction;
  transaction.writes.push_back(
      {.key = keys_.Node(id), .value = registration.SerializeAsString(), .lease = leases_[id]});
  (void)etcd_.Commit(transaction);
}

void SimCluster::RestartAll() {
  for (auto& real : reals_) real.reset();
  std::vector<NodeId> others;
  for (const auto& [id, lease] : leases_) others.push_back(id);
  for (const NodeId& id : others) {
    Revoke(id);
    Register(id);
  }
  claims_.clear();
  for (int i = 0; i < kRealNodes; ++i) StartReal(i);
}

bool SimCluster::Wait(const std::function<bool()>& condition) {
  const absl::Time end = loop_.now() + kPatience;
  while (!condition()) {
    if (loop_.now() > end) return false;
    loop_.RunUntil(loop_.now() + kStep);
  }
  return true;
}

TablePtr SimCluster::table() const { return reals_.back()->member->table(); }

std::vector<std::string> SimCluster::troubles() const {
  return reals_.back()->member->status().troubles;
}

v1::TableHead SimCluster::Head() const {
  v1::TableHead head;
  (void)head.ParseFromString(etcd_.entries().at(keys_.Head()).value);
  return head;
}

void SimCluster::Claim(Real& real, const RoutingTable& table) {
  for (auto& [node, claims] : ClaimsIn(table)) {
    if (table.node(node).id != real.id) continue;
    real.clock.After(Soon(node), [&real, claims = claims] { real.member->Claim(claims); });
  }
}

void SimCluster::ClaimForOthers(const RoutingTable& table) {
  for (auto& [id, claims] : claims_) {
    if (claims.KeepWhatCounts(table, id)) {
      loop_.After(Soon(0), [this, id = id] { WriteClaims(id); });
    }
  }
  for (auto& [node, claims] : ClaimsIn(table)) {
    const NodeInfo& info = table.node(node);
    if (!leases_.contains(info.id) || generations_.at(info.id) != info.generation) continue;
    loop_.After(Soon(node), [this, id = info.id, claims = claims] {
      claims_.try_emplace(id, generations_.at(id)).first->second.Add(claims);
      WriteClaims(id);
    });
  }
}

void SimCluster::ReportMissed(const NodeId& holder, const MissedWrite& missed) {
  claims_.try_emplace(holder, generations_.at(holder)).first->second.AddMissed(missed);
  WriteClaims(holder);
}

void SimCluster::WriteClaims(const NodeId& id) {
  const SlotClaimSet& claims = claims_.at(id);
  if (claims.generation() != generations_.at(id)) return;
  EtcdTransaction transaction;
  transaction.writes.push_back(
      {.key = keys_.Claims(id), .value = claims.Pack(), .lease = leases_.at(id)});
  (void)etcd_.Commit(transaction);
}

}  // namespace latentd::sim
