#include "daemon/membership/lease_keeper.h"

#include <algorithm>
#include <utility>

namespace latentd {
namespace {

constexpr absl::Duration kLeastBackoff = absl::Milliseconds(100);
constexpr absl::Duration kRevokeTimeout = absl::Seconds(1);

}  // namespace

absl::Duration LeaseKeeper::SafeTime(absl::Duration ttl) {
  return ttl - std::max(ttl / 5, absl::Milliseconds(200));
}

LeaseKeeper::LeaseKeeper(Etcd* etcd, Scheduler* scheduler, absl::Duration ttl, uint64_t seed,
                         Callbacks callbacks)
    : etcd_(etcd),
      scheduler_(scheduler),
      ttl_(ttl),
      callbacks_(std::move(callbacks)),
      random_(seed),
      backoff_(kLeastBackoff),
      next_(scheduler, [this] { lease_ == EtcdLease{} ? Grant() : KeepAlive(); }) {}

void LeaseKeeper::Start() { Grant(); }

void LeaseKeeper::Stop(std::function<void()> done) {
  stopped_ = true;
  next_.Cancel();
  const EtcdLease lease = std::exchange(lease_, EtcdLease{});
  valid_until_ = absl::InfinitePast();
  if (lease == EtcdLease{}) return done();
  etcd_->RevokeLease(lease, kRevokeTimeout,
                     [done = std::move(done)](const absl::StatusOr<bool>&) { done(); });
}

void LeaseKeeper::Grant() {
  const absl::Time sent = scheduler_->now();
  etcd_->GrantLease(ttl_, ttl_ / 3,
                    life_.Guard([this, sent](const absl::StatusOr<Etcd::Granted>& granted) {
                      if (stopped_) return;  // a lease that nobody keeps ends by itself
                      if (!granted.ok()) return TryAgain(granted.status());
                      lease_ = granted->lease;
                      valid_until_ = sent + SafeTime(std::min(ttl_, granted->ttl));
                      backoff_ = kLeastBackoff;
                      next_.Set(ttl_ / 3);
                      callbacks_.changed();
                    }));
}

void LeaseKeeper::KeepAlive() {
  const absl::Time sent = scheduler_->now();
  etcd_->KeepAlive(
      lease_, ttl_ / 3,
      life_.Guard([this, sent, lease = lease_](const absl::StatusOr<absl::Duration>& left) {
        if (stopped_ || lease != lease_) return;
        if (absl::IsNotFound(left.status())) return Lost();
        if (!left.ok()) return TryAgain(left.status());
        valid_until_ = std::max(valid_until_, sent + SafeTime(std::min(ttl_, *left)));
        backoff_ = kLeastBackoff;
        next_.Set(std::max(absl::ZeroDuration(), ttl_ / 3 - (scheduler_->now() - sent)));
        callbacks_.changed();
      }));
}

void LeaseKeeper::TryAgain(const absl::Status& why) {
  callbacks_.trouble(why);
  next_.Set(backoff_ * std::uniform_real_distribution<double>(0.5, 1.0)(random_));
  backoff_ = std::min(2 * backoff_, std::max(kLeastBackoff, ttl_ / 6));
}

void LeaseKeeper::Lost() {
  lease_ = {};
  valid_until_ = absl::InfinitePast();
  callbacks_.changed();
  if (!next_.pending()) next_.Set(absl::ZeroDuration());
}

}  // namespace latentd
