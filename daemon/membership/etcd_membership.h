// Membership by etcd: a `ClusterNode` on a thread of its own, with a client of a real etcd.
//
// Start does not wait for etcd: until it answers there is no table, the fence is closed, and the
// troubles of authority() say why.
#ifndef LATENTD_DAEMON_MEMBERSHIP_ETCD_MEMBERSHIP_H_
#define LATENTD_DAEMON_MEMBERSHIP_ETCD_MEMBERSHIP_H_

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd_client.h"
#include "daemon/etcd/etcd_options.h"
#include "daemon/etcd/event_loop.h"
#include "daemon/membership/cluster_node.h"
#include "daemon/membership/cost_exchange.h"
#include "daemon/membership/membership.h"
#include "daemon/membership/timer.h"
#include "daemon/membership/trouble_log.h"
#include "routing/layout.h"

namespace latentd {

struct EtcdMembershipOptions {
  EtcdOptions etcd;
  std::string cluster;
  absl::Duration lease = absl::Seconds(3);
  uint32_t replicas = 1;
  Layout layout;
  uint32_t lanes = 1;
  std::string version;
};

class EtcdMembership : public Membership {
 public:
  explicit EtcdMembership(EtcdMembershipOptions options);
  ~EtcdMembership() override;

  std::string_view name() const override { return "etcd"; }
  // INVALID_ARGUMENT, FAILED_PRECONDITION: see CheckEtcdOptions.
  absl::Status Start(NodeInfo self, TableCallback on_table) override;
  // Waits for two seconds at most for etcd to hear of it.
  void Stop() override;
  TablePtr table() const override;
  std::vector<Member> ListNodes() const override;
  void SetDraining(bool draining) override;
  bool hands_over() const override { return true; }
  void Claim(std::vector<SlotClaim> claims) override;
  void ReportMissed(MissedWrite missed) override;
  void PublishCosts(v1::NodeCosts costs) override;
  std::vector<v1::NodeCosts> costs() const override;
  bool tells_costs() const override { return true; }
  const ServingFence& fence() const override { return fence_; }
  std::optional<AuthorityStatus> authority() const override;

  // As of some milliseconds ago.
  ClusterNodeStatus status() const;

 private:
  void StartNode(NodeInfo self, TableCallback on_table);
  void TakeSnapshot();
  // Every second: what becomes of the fence and of troubles without anybody's doing.
  void Look();
  // These tell the log what is new.
  void LogChanges(const ClusterNodeStatus& before, const ClusterNodeStatus& now);
  void LogFence();

  const EtcdMembershipOptions options_;
  ServingFence fence_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<EtcdClient> etcd_;
  // Of the loop's thread.
  std::unique_ptr<ClusterNode> node_;
  std::unique_ptr<CostExchange> exchange_;
  std::unique_ptr<Timer> snapshot_;
  std::unique_ptr<Timer> look_;
  TroubleLog trouble_log_;
  bool fence_was_open_ = false;
  absl::Time fence_closed_at_ = absl::InfinitePast();

  mutable std::mutex mutex_;
  TablePtr table_;
  std::vector<Member> members_;
  ClusterNodeStatus status_;
  std::vector<v1::NodeCosts> costs_;
  bool stopped_ = false;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_ETCD_MEMBERSHIP_H_
