// `CostExchange` is how nodes learn at etcd what the others have measured (costs/<id>, under the
// lease of whoever wrote it): it keeps this node's entry as it should be and a copy of all of them.
// Nothing that the cluster decides depends on it.
//
// The scheduler's thread only.
#ifndef LATENTD_DAEMON_MEMBERSHIP_COST_EXCHANGE_H_
#define LATENTD_DAEMON_MEMBERSHIP_COST_EXCHANGE_H_

#include <functional>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd.h"
#include "daemon/etcd/scheduler.h"
#include "daemon/membership/cluster_keys.h"
#include "daemon/membership/etcd_mirror.h"
#include "daemon/membership/timer.h"
#include "proto/latentd/v1/costs.pb.h"

namespace latentd {

class CostExchange {
 public:
  // `on_change`: nodes() says something else.
  CostExchange(Etcd* etcd, Scheduler* scheduler, const ClusterKeys& keys, NodeId id,
               std::function<void()> on_change);

  void Start();
  // The lease under which the node is registered; none: nothing is written. What was written under
  // another lease goes with that one.
  void SetLease(EtcdLease lease);
  // Written at once, or soon after the last.
  void Publish(v1::NodeCosts costs);

  // Of every node that has said any, this one too, by id. An entry that cannot be read, or that
  // speaks of another node than its key, is left out.
  std::vector<v1::NodeCosts> nodes() const;

 private:
  void Changed();
  void Write();

  Etcd* const etcd_;
  Scheduler* const scheduler_;
  const std::string prefix_;
  const std::string key_;
  std::optional<v1::NodeCosts> own_;
  EtcdLease lease_{};
  bool written_ = true;  // etcd has what there is to say
  bool busy_ = false;
  absl::Time last_write_ = absl::InfinitePast();
  EtcdMirror mirror_;
  Timer write_;
  Lifetime life_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_COST_EXCHANGE_H_
