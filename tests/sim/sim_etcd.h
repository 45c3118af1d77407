// `SimEtcd` is an etcd in simulated time: revisions, guarded transactions, leases by a clock of its
// own, watches with delay and history that can be compacted. It can be down, and it can lose
// everything. `SimEtcdClient` is what one process has of it: calls that are late, lost on the way
// there or on the way back.
//
// One thread.
#ifndef LATENTD_TESTS_SIM_SIM_ETCD_H_
#define LATENTD_TESTS_SIM_SIM_ETCD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/etcd/etcd.h"
#include "daemon/membership/etcd_mirror.h"
#include "tests/sim/sim_loop.h"

namespace latentd::sim {

class SimWatch;

class SimEtcd {
 public:
  SimEtcd(SimLoop* loop, uint64_t seed, double clock_rate)
      : loop_(loop), random_(seed), rate_(clock_rate) {}

  // What a member does when a request arrives.
  EtcdListing List(const std::string& prefix) const;
  absl::StatusOr<EtcdOutcome> Commit(const EtcdTransaction& transaction);
  Etcd::Granted Grant(absl::Duration ttl);
  absl::StatusOr<absl::Duration> KeepAlive(EtcdLease lease);
  absl::StatusOr<bool> Revoke(EtcdLease lease);

  // Leases last anew when it is up again.
  void SetDown(bool down);
  bool down() const { return down_; }
  void Compact() { compacted_ = revision_; }
  // Everything is gone, and revisions begin anew.
  void Wipe();

  bool Lives(EtcdLease lease) const { return leases_.contains(lease); }
  const EtcdEntries& entries() const { return entries_; }
  // Called after each change.
  void OnChange(std::function<void()> on_change) { on_change_ = std::move(on_change); }

 private:
  friend class SimWatch;
  struct Lease {
    absl::Duration ttl;
    uint64_t renewals = 0;
  };

  void Renew(EtcdLease id);
  void Erase(const std::string& key, std::vector<EtcdEvent>& events);
  void Tell(std::vector<EtcdEvent> events);

  SimLoop* const loop_;
  SimRandom random_;
  const double rate_;
  bool down_ = false;
  int64_t revision_ = 1;
  int64_t compacted_ = 0;
  EtcdEntries entries_;
  std::map<int64_t, std::vector<EtcdEvent>> history_;
  std::map<EtcdLease, Lease> leases_;
  int64_t next_lease_ = 1;
  std::map<uint64_t, SimWatch*> watches_;  // by age: the order must not depend on addresses
  uint64_t next_watch_ = 0;
  std::function<void()> on_change_;
};

// Between a process and etcd. Shared with whoever makes faults.
struct SimEtcdLink {
  bool cut = false;
  double loss = 0;  // of a request, and of an answer
  absl::Duration most_delay = absl::Milliseconds(10);
};

class SimEtcdClient : public Etcd {
 public:
  SimEtcdClient(SimLoop* loop, SimEtcd* etcd, SimClock* clock, const SimEtcdLink* link,
                uint64_t seed)
      : loop_(loop), etcd_(etcd), clock_(clock), link_(link), random_(seed) {}

  void List(std::string prefix, absl::Duration timeout, Done<EtcdListing> done) override;
  void Commit(EtcdTransaction transaction, absl::Duration timeout, Done<EtcdOutcome> done) override;
  void GrantLease(absl::Duration ttl, absl::Duration timeout, Done<Granted> done) override;
  void KeepAlive(EtcdLease lease, absl::Duration timeout, Done<absl::Duration> done) override;
  void RevokeLease(EtcdLease lease, absl::Duration timeout, Done<bool> done) override;
  std::unique_ptr<EtcdWatch> Watch(
      std::string prefix, int64_t revision,
      std::function<void(int64_t revision, std::vector<EtcdEvent> events)> on_events,
      std::function<void(absl::Status)> on_end) override;

 private:
  friend class SimWatch;
  template <typename T>
  void Call(std::function<absl::StatusOr<T>()> operation, absl::Duration timeout, Done<T> done);
  bool Passes() { return !link_->cut && !etcd_->down() && !random_.Chance(link_->loss); }
  absl::Duration Delay() {
    return random_.Between(absl::Microseconds(100), link_->most_delay) *
           (random_.Chance(0.02) ? 20 : 1);
  }

  SimLoop* const loop_;
  SimEtcd* const etcd_;
  SimClock* const clock_;
  const SimEtcdLink* const link_;
  SimRandom random_;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace latentd::sim

#endif  // LATENTD_TESTS_SIM_SIM_ETCD_H_
