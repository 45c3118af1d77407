// `SimCluster` is a cluster of any size around the real coordinator, in simulated time: two real
// nodes, an etcd, and for the other nodes their entries there and what they would claim. Copying
// takes no time in it: what it takes is the nodes' business, and they do it side by side.
//
// One thread.
#ifndef LATENTD_TESTS_SIM_SIM_CLUSTER_H_
#define LATENTD_TESTS_SIM_SIM_CLUSTER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/membership/cluster_keys.h"
#include "daemon/membership/cluster_node.h"
#include "daemon/membership/serving_fence.h"
#include "daemon/membership/slot_claims.h"
#include "proto/latentd/v1/membership.pb.h"
#include "tests/sim/sim_etcd.h"
#include "tests/sim/sim_loop.h"

namespace latentd::sim {

struct SimClusterOptions {
  int nodes = 5;  // with the real ones
  uint32_t replicas = 2;
  uint32_t block_slots = 1;  // see BalanceHolders
};

class SimCluster {
 public:
  static constexpr int kRealNodes = 2;

  explicit SimCluster(SimClusterOptions options);
  ~SimCluster();

  // ---- nodes that are entries: "node-2" and on ----
  void Register(const NodeId& id);
  void Revoke(const NodeId& id) { (void)etcd_.Revoke(leases_.at(id)); }

  // A node that is an entry says that another has missed a write; its word goes as it should.
  void ReportMissed(const NodeId& holder, const MissedWrite& missed);

  // Every node, the real ones too, has lost its memory and is back before a table could be written.
  void RestartAll();

  // Whether `condition` came to hold within a minute.
  bool Wait(const std::function<bool()>& condition);

  // Of the real node that is started last.
  TablePtr table() const;
  std::vector<std::string> troubles() const;
  // Of the memory that the node has now.
  Generation GenerationOf(const NodeId& id) const { return generations_.at(id); }
  v1::TableHead Head() const;
  absl::Time now() const { return loop_.now(); }

 private:
  struct Real;

  NodeInfo MakeNode(const NodeId& id);
  void StartReal(int index);
  void Claim(Real& real, const RoutingTable& table);
  void ClaimForOthers(const RoutingTable& table);
  void WriteClaims(const NodeId& id);

  const SimClusterOptions options_;
  const ClusterKeys keys_{"sim"};
  SimLoop loop_;
  SimEtcd etcd_;
  SimEtcdLink link_;
  std::map<NodeId, EtcdLease> leases_;
  std::map<NodeId, Generation> generations_;
  std::map<NodeId, SlotClaimSet> claims_;  // of nodes that are entries
  uint64_t next_generation_ = 1;
  std::vector<std::unique_ptr<Real>> reals_;
};

}  // namespace latentd::sim

#endif  // LATENTD_TESTS_SIM_SIM_CLUSTER_H_
