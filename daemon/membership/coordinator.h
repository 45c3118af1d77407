// `Coordinator` is the part of a node that stands for election and, once elected, writes the
// routing table: whoever could write the entry `coordinator` under its lease leads until that entry
// is gone. Each write of the table is guarded by that entry and by the head that it follows, so that
// one who leads no longer, and does not know it, writes nothing; and by the absence of every node
// that it takes out, so that nobody is taken out who has come back, looked, and answers again.
//
//     state       becomes
//     follows     leads, when the entry is gone and it is the one to write it
//     leads       follows, when the entry is another's; gives it up if it cannot read the table, or
//                 if the table has to be made anew and another node knows a newer one
//
// An etcd whose table is missing, or older than what nodes know, has lost something. The leader then
// waits for as long as a lease lasts, for all who live to say what they know and for fences of the
// old days to close, and goes on above the highest epoch that anybody knows. Who knows more than the
// leader is taken out of the table once: what it held, nobody can tell.
//
// The scheduler's thread only.
#ifndef LATENTD_DAEMON_MEMBERSHIP_COORDINATOR_H_
#define LATENTD_DAEMON_MEMBERSHIP_COORDINATOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd.h"
#include "daemon/etcd/scheduler.h"
#include "daemon/membership/cluster_keys.h"
#include "daemon/membership/etcd_mirror.h"
#include "daemon/membership/node_roster.h"
#include "daemon/membership/slot_claims.h"
#include "daemon/membership/table_store.h"
#include "daemon/membership/timer.h"
#include "proto/latentd/v1/membership.pb.h"
#include "routing/placement.h"

namespace latentd {

struct CoordinatorOptions {
  NodeId id;
  Generation generation{};
  std::string version;
  int64_t started_unix_ms = 0;  // of the node, which is when this is made
  v1::Layout layout;
  uint32_t replicas = 1;
  absl::Duration ttl;
  uint64_t seed = 0;
  uint32_t block_slots = 1;  // see BalanceHolders

  absl::Duration coalesce = absl::Milliseconds(100);  // changes that are no death
  absl::Duration least_interval = absl::Milliseconds(50);
};

class Coordinator {
 public:
  // What the node knows. Everything lives as long as this.
  struct View {
    const EtcdMirror* nodes;
    const EtcdMirror* coordinator;
    const EtcdMirror* table;
    const StoredTable* known;  // the newest table
    const EtcdLease* lease;    // under which the node is registered, and serves; 0: none
  };

  Coordinator(Etcd* etcd, Scheduler* scheduler, const ClusterKeys& keys, CoordinatorOptions options,
              View view, std::function<void(const absl::Status&)> trouble);

  // Something of the view has changed.
  void Look();
  void Stop();

  bool leads() const { return led_since_ != 0; }
  // What keeps the table from being as it should; of a leader only.
  const std::vector<std::string>& troubles() const { return troubles_; }

 private:
  // What is wrong with the table that is stored, if anything.
  enum class Stored : uint8_t { kCurrent, kLost, kUnreadable };

  Stored Judge() const;
  const Roster& CurrentRoster();
  bool AnotherKnowsMore();
  // Whether somebody of the table is gone, or has another memory.
  bool DeathInTable();
  void Campaign();
  void Resign(const std::string& why);
  void Follow();
  void Deliberate();
  bool WaitToRecover();
  v1::Layout ClusterLayout(const Roster& roster) const;
  void ReadClaims();
  // What holders of the present table say that `nodes` have missed.
  Missed WhoMissedWhat(const std::vector<NodeInfo>& nodes) const;
  // Nodes of `roster` that know more than what is stored are left out; `least_epoch` is raised.
  void LeaveOutUnknown(Roster& roster, Epoch& least_epoch, bool recovering) const;
  // Of many that are gone or have another memory at once, some stay as they were and are left for
  // the tables that follow: a transaction has only so many guards. Whoever has restarted and is
  // there as before does not serve (ClusterNode::MayServe).
  void KeepSomeOfTheGone(Roster& roster, const v1::Layout& layout) const;
  // That nobody who is missing from `next`, or has another memory there, is back at etcd meanwhile.
  std::vector<EtcdGuard> GuardsFor(const RoutingTable& next) const;
  void Write(TablePtr next, const v1::Layout& layout);
  void CommitNext(std::shared_ptr<const TableWrite> write, size_t index);
  void DeliberateIn(absl::Duration delay);

  Etcd* const etcd_;
  Scheduler* const scheduler_;
  const ClusterKeys keys_;
  const CoordinatorOptions options_;
  const View view_;
  const absl::Time made_;  // of the scheduler's clock
  const std::function<void(const absl::Status&)> trouble_;
  std::mt19937_64 random_;

  int64_t led_since_ = 0;   // create revision of the entry; 0: another leads, or nobody
  bool busy_ = false;       // a write is under way
  int64_t written_at_ = 0;  // revision that the mirror must have got to
  absl::Time last_write_ = absl::InfinitePast();
  std::optional<absl::Time> recovers_since_;
  std::vector<std::string> troubles_;

  struct Claimed {
    int64_t mod_revision = 0;
    SlotClaimSet claims;
  };
  EtcdMirror claims_mirror_;
  std::map<NodeId, Claimed> claims_;

  Roster roster_;
  uint64_t roster_change_ = 0;  // of the mirror that it was made from
  std::pair<uint64_t, Epoch> death_looked_for_{};
  bool death_ = false;

  Timer campaign_;
  Timer deliberate_;
  Lifetime life_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_COORDINATOR_H_
