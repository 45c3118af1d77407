#include "daemon/membership/registrar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace latentd {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(1);
constexpr absl::Duration kRetryAfter = absl::Milliseconds(250);

absl::Status IdIsTaken(const v1::NodeRegistration& other) {
  return absl::FailedPreconditionError(absl::StrFormat(
      "node id '%s' is taken: by the daemon at %s since %s, generation %016x; its lease still "
      "lives",
      other.node().id(), other.node().control_address(),
      absl::FormatTime(absl::FromUnixMillis(other.started_unix_ms())), other.node().generation()));
}

}  // namespace

Registrar::Registrar(Etcd* etcd, Scheduler* scheduler, std::string key,
                     std::function<void()> changed,
                     std::function<void(const absl::Status&)> trouble)
    : etcd_(etcd),
      key_(std::move(key)),
      changed_(std::move(changed)),
      trouble_(std::move(trouble)),
      retry_(scheduler, [this] { Check(); }) {}

void Registrar::Want(v1::NodeRegistration registration, EtcdLease lease) {
  wanted_ = std::move(registration);
  lease_ = lease;
  if (registered_ != lease) registered_ = {};
  Check();
}

void Registrar::Check() {
  if (lease_ == EtcdLease{}) return;
  if (busy_) {
    again_ = true;
    return;
  }
  busy_ = true;
  Read();
}

void Registrar::Read() {
  etcd_->List(key_, kTimeout,
              life_.Guard([this](const absl::StatusOr<EtcdListing>& listing) { Decide(listing); }));
}

void Registrar::Decide(const absl::StatusOr<EtcdListing>& listing) {
  if (!listing.ok()) return End(listing.status());
  if (lease_ == EtcdLease{}) return End(absl::OkStatus());
  const auto entry = std::find_if(listing->entries.begin(), listing->entries.end(),
                                  [this](const EtcdEntry& e) { return e.key == key_; });
  if (entry == listing->entries.end()) return Write(0);
  v1::NodeRegistration there;
  // What cannot be read is nobody's that could be reasoned with; its lease ends it.
  if (!there.ParseFromString(entry->value) ||
      there.node().generation() != wanted_.node().generation()) {
    registered_ = {};
    refusal_ = IdIsTaken(there);
    End(absl::OkStatus());
    retry_.Set(kRetryAfter);
    return;
  }
  if (entry->lease == lease_ && entry->value == wanted_.SerializeAsString()) {
    registered_ = lease_;
    refusal_ = absl::OkStatus();
    return End(absl::OkStatus());
  }
  Write(entry->mod_revision);
}

void Registrar::Write(int64_t over_revision) {
  EtcdTransaction transaction;
  transaction.guards.push_back({key_, EtcdGuard::Field::kModRevision, over_revision});
  transaction.writes.push_back(
      {.key = key_, .value = wanted_.SerializeAsString(), .lease = lease_});
  etcd_->Commit(std::move(transaction), kTimeout,
                life_.Guard([this, lease = lease_](const absl::StatusOr<EtcdOutcome>& outcome) {
                  if (!outcome.ok()) return End(outcome.status());
                  if (!outcome->done) return Read();
                  if (lease == lease_) registered_ = lease;
                  refusal_ = absl::OkStatus();
                  End(absl::OkStatus());
                }));
}

void Registrar::End(const absl::Status& trouble) {
  busy_ = false;
  if (!trouble.ok()) {
    trouble_(trouble);
    retry_.Set(kRetryAfter);
  }
  if (std::exchange(again_, false)) retry_.Set(absl::ZeroDuration());
  changed_();
}

}  // namespace latentd
