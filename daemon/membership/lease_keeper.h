// `LeaseKeeper` holds a lease at etcd for as long as it can, and knows until when nobody else can
// have seen it end: counted from when the last request that etcd granted was *sent*, less a margin
// for clocks that do not run alike.
//
//     state     becomes
//     none      held, when etcd grants one
//     held      none, when etcd says that it is over; asked again about, as long as it does not
//               answer: a lease that etcd still has is not over, however late
//
// The scheduler's thread only.
#ifndef LATENTD_DAEMON_MEMBERSHIP_LEASE_KEEPER_H_
#define LATENTD_DAEMON_MEMBERSHIP_LEASE_KEEPER_H_

#include <cstdint>
#include <functional>
#include <random>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd.h"
#include "daemon/etcd/scheduler.h"
#include "daemon/membership/timer.h"

namespace latentd {

class LeaseKeeper {
 public:
  struct Callbacks {
    std::function<void()> changed;  // lease() or valid_until()
    std::function<void(const absl::Status&)> trouble;
  };

  // How long a lease of `ttl` may be relied on, from when it was asked for.
  static absl::Duration SafeTime(absl::Duration ttl);

  LeaseKeeper(Etcd* etcd, Scheduler* scheduler, absl::Duration ttl, uint64_t seed,
              Callbacks callbacks);

  void Start();
  // Gives the lease back. `done` once, even if etcd does not answer. Not started again.
  void Stop(std::function<void()> done);

  EtcdLease lease() const { return lease_; }  // 0: none
  // Of lease(). InfinitePast without one.
  absl::Time valid_until() const { return valid_until_; }

 private:
  void Grant();
  void KeepAlive();
  void TryAgain(const absl::Status& why);
  void Lost();

  Etcd* const etcd_;
  Scheduler* const scheduler_;
  const absl::Duration ttl_;
  const Callbacks callbacks_;
  std::mt19937_64 random_;
  bool stopped_ = false;
  EtcdLease lease_{};
  absl::Time valid_until_ = absl::InfinitePast();
  absl::Duration backoff_;
  Timer next_;
  Lifetime life_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_LEASE_KEEPER_H_
