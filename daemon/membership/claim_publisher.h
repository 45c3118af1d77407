// `ClaimPublisher` keeps what this node claims, and what it says that others lack, at etcd, under its
// lease, where the coordinator reads it: a few writes a second at most, however often something is claimed.
//
// The scheduler's thread only.
#ifndef LATENTD_DAEMON_MEMBERSHIP_CLAIM_PUBLISHER_H_
#define LATENTD_DAEMON_MEMBERSHIP_CLAIM_PUBLISHER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd.h"
#include "daemon/etcd/scheduler.h"
#include "daemon/membership/slot_claims.h"
#include "daemon/membership/timer.h"

namespace latentd {

class ClaimPublisher {
 public:
  ClaimPublisher(Etcd* etcd, Scheduler* scheduler, std::string key, NodeId id,
                 Generation generation, std::function<void(const absl::Status&)> trouble);

  // What was written under another lease goes with that one.
  void SetLease(EtcdLease lease);
  void Add(const std::vector<SlotClaim>& claims);
  void AddMissed(const MissedWrite& missed);
  // Claims that mean nothing any more are dropped.
  void Follow(const RoutingTable& table);

 private:
  void Changed();
  void Write();

  Etcd* const etcd_;
  Scheduler* const scheduler_;
  const std::string key_;
  const NodeId id_;
  const std::function<void(const absl::Status&)> trouble_;
  SlotClaimSet claims_;
  EtcdLease lease_{};
  bool written_ = true;  // etcd has what there is to say
  bool busy_ = false;
  absl::Time last_write_ = absl::InfinitePast();
  Timer write_;
  Lifetime life_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_CLAIM_PUBLISHER_H_
