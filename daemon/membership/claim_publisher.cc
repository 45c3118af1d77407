#include "daemon/membership/claim_publisher.h"

#include <algorithm>
#include <utility>

namespace latentd {
namespace {

constexpr absl::Duration kLeastInterval = absl::Milliseconds(250);
// Claims that come right after one another are written together.
constexpr absl::Duration kCoalesce = absl::Milliseconds(20);
constexpr absl::Duration kTimeout = absl::Seconds(1);

}  // namespace

ClaimPublisher::ClaimPublisher(Etcd* etcd, Scheduler* scheduler, std::string key, NodeId id,
                               Generation generation,
                               std::function<void(const absl::Status&)> trouble)
    : etcd_(etcd),
      scheduler_(scheduler),
      key_(std::move(key)),
      id_(std::move(id)),
      trouble_(std::move(trouble)),
      claims_(generation),
      write_(scheduler, [this] { Write(); }) {}

void ClaimPublisher::SetLease(EtcdLease lease) {
  if (lease_ == lease) return;
  lease_ = lease;
  if (!claims_.empty()) Changed();
}

void ClaimPublisher::Add(const std::vector<SlotClaim>& claims) {
  if (claims_.Add(claims)) Changed();
}

void ClaimPublisher::AddMissed(const MissedWrite& missed) {
  if (claims_.AddMissed(missed)) Changed();
}

void ClaimPublisher::Follow(const RoutingTable& table) {
  if (claims_.KeepWhatCounts(table, id_)) Changed();
}

void ClaimPublisher::Changed() {
  written_ = false;
  write_.Set(std::max(kCoalesce, last_write_ + kLeastInterval - scheduler_->now()));
}

void ClaimPublisher::Write() {
  if (written_ || busy_ || lease_ == EtcdLease{}) return;
  busy_ = true;
  written_ = true;
  last_write_ = scheduler_->now();
  EtcdTransaction transaction;
  if (claims_.empty()) {
    transaction.writes.push_back({.key = key_, .erase = true});
  } else {
    transaction.writes.push_back({.key = key_, .value = claims_.Pack(), .lease = lease_});
  }
  etcd_->Commit(std::move(transaction), kTimeout,
                life_.Guard([this](const absl::StatusOr<EtcdOutcome>& outcome) {
                  busy_ = false;
                  if (!outcome.ok()) {
                    trouble_(outcome.status());
                    written_ = false;
                  }
                  if (!written_) Changed();
                }));
}

}  // namespace latentd
