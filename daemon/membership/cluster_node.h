// `ClusterNode` is one node's part in a cluster whose authority is etcd: it registers the node under
// a lease, stands for coordinator, follows the routing table, publishes the node's claims, and
// moves the node's fence. All of it is logic: etcd and time are interfaces, so that a simulation
// runs the same code (tests/sim).
//
// The node may answer (the fence is open) while all of this holds:
//   * its lease lives, as LeaseKeeper counts
//   * its entry stands at etcd under that lease, as this life of it
//   * it has the table that etcd had when that entry was written, or a later one: what went on while
//     another lease was lost is known; and etcd has not gone back on it since
//   * its newest table does not speak of another life of it
//
// The scheduler's thread only. Callbacks run on it, never inside Start; they may call anything but
// the destructor.
#ifndef LATENTD_DAEMON_MEMBERSHIP_CLUSTER_NODE_H_
#define LATENTD_DAEMON_MEMBERSHIP_CLUSTER_NODE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd.h"
#include "daemon/etcd/scheduler.h"
#include "daemon/membership/claim_publisher.h"
#include "daemon/membership/cluster_keys.h"
#include "daemon/membership/coordinator.h"
#include "daemon/membership/etcd_mirror.h"
#include "daemon/membership/lease_keeper.h"
#include "daemon/membership/membership.h"
#include "daemon/membership/registrar.h"
#include "daemon/membership/serving_fence.h"
#include "daemon/membership/table_store.h"
#include "daemon/membership/timer.h"
#include "proto/latentd/v1/cluster.pb.h"
#include "routing/placement.h"

namespace latentd {

struct ClusterNodeOptions {
  NodeInfo self;
  std::string cluster;
  v1::Layout layout;
  uint32_t lanes = 1;
  std::string version;
  int64_t started_unix_ms = 0;
  absl::Duration ttl = absl::Seconds(3);
  uint32_t replicas = 1;
  uint64_t seed = 0;         // of what is random: waiting times
  uint32_t block_slots = 1;  // see BalanceHolders
};

// How it stands, for people. A value.
struct ClusterNodeStatus {
  bool registered = false;
  int64_t lease = 0;
  absl::Time serves_until = absl::InfinitePast();       // of the scheduler's clock
  std::string coordinator;                              // its node id; empty: there is none
  absl::Time coordinator_since = absl::InfinitePast();  // by its own clock; not known
  bool coordinates = false;
  Epoch epoch{};
  PlacementProgress progress;
  // What is not as it should be, the most serious first. Empty: nothing.
  std::vector<std::string> troubles;
  std::string etcd_trouble;  // one of these: what etcd does not do; empty: it does
};

class ClusterNode {
 public:
  struct Callbacks {
    TableCallback on_table;           // epochs only grow
    std::function<void()> on_change;  // ListNodes or status() may say something else
  };

  // `fence` outlives this; it is closed at once.
  ClusterNode(Etcd* etcd, Scheduler* scheduler, ClusterNodeOptions options, ServingFence* fence,
              Callbacks callbacks);
  ~ClusterNode();

  void Start();
  // Closes the fence and gives the lease back; `done` once, soon, whatever etcd does. The end.
  void Leave(std::function<void()> done);

  void SetDraining(bool draining);
  void Claim(const std::vector<SlotClaim>& claims);
  void ReportMissed(const MissedWrite& missed);

  TablePtr table() const { return known_.table; }
  std::vector<Member> ListNodes() const;
  ClusterNodeStatus status() const;

 private:
  void LeaseChanged();
  void WantRegistration();
  void RegistrationChanged();
  void NodesChanged();
  void TableChanged();
  void ListAnew();
  void Audit();
  void TakeAudit(EtcdLease lease, const EtcdListing& listing);
  // Why the node may not answer; nothing: it may, while its lease lives.
  std::optional<FenceReason> Obstacle() const;
  void UpdateFence();
  // Who asks etcd, the most serious first: what shows is the first one's trouble. Those after
  // kAudit do not tell when etcd does again.
  enum Asker : uint8_t {
    kLease,
    kRegistration,
    kNodes,
    kElection,
    kTable,
    kAudit,
    kLeading,
    kClaim
  };
  static constexpr size_t kAskers = kClaim + 1;
  std::function<void(const absl::Status&)> TroubleOf(Asker asker);
  void EtcdDoes(Asker asker) { etcd_troubles_[asker].status = absl::OkStatus(); }
  absl::Status EtcdTrouble() const;

  Etcd* const etcd_;
  Scheduler* const scheduler_;
  const ClusterNodeOptions options_;
  const ClusterKeys keys_;
  ServingFence* const fence_;
  const Callbacks callbacks_;

  bool left_ = false;
  NodeState state_ = NodeState::kActive;
  StoredTable known_;
  PlacementProgress progress_;
  std::vector<std::string> capacity_troubles_;  // of known_
  absl::Status table_trouble_;
  struct EtcdFailure {
    absl::Status status;
    absl::Time at;
  };
  std::array<EtcdFailure, kAskers> etcd_troubles_;

  EtcdLease seen_lease_{};
  EtcdLease acts_under_{};     // registered under it, and it lives
  EtcdLease audited_lease_{};  // known_ is at least as new as what etcd had since then
  Epoch required_epoch_{};
  int64_t audited_head_ = 0;  // revision of the head at the last audit

  LeaseKeeper keeper_;
  Registrar registrar_;
  EtcdMirror nodes_;
  EtcdMirror coordinator_entry_;
  EtcdMirror table_;
  ClaimPublisher claims_;
  Coordinator coordinator_;
  Timer audit_;
  Lifetime life_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_CLUSTER_NODE_H_
