#include "daemon/membership/cost_exchange.h"

#include <algorithm>
#include <utility>

namespace latentd {
namespace {

constexpr absl::Duration kLeastInterval = absl::Seconds(1);
constexpr absl::Duration kRetryAfter = absl::Seconds(1);
constexpr absl::Duration kTimeout = absl::Seconds(1);

}  // namespace

CostExchange::CostExchange(Etcd* etcd, Scheduler* scheduler, const ClusterKeys& keys, NodeId id,
                           std::function<void()> on_change)
    : etcd_(etcd),
      scheduler_(scheduler),
      prefix_(keys.Costs()),
      key_(keys.Costs(id)),
      // What etcd does not do shows in those who need it.
      mirror_(etcd, scheduler, prefix_, std::move(on_change), [](const absl::Status&) {}),
      write_(scheduler, [this] { Write(); }) {}

void CostExchange::Start() { mirror_.Start(); }

void CostExchange::SetLease(EtcdLease lease) {
  if (lease_ == lease) return;
  lease_ = lease;
  // An etcd that lost the lease may have lost more, and begun to count anew.
  if (lease_ != EtcdLease{}) mirror_.Start();
  if (own_.has_value()) Changed();
}

void CostExchange::Publish(v1::NodeCosts costs) {
  own_ = std::move(costs);
  Changed();
}

std::vector<v1::NodeCosts> CostExchange::nodes() const {
  std::vector<v1::NodeCosts> nodes;
  for (const auto& [key, entry] : mirror_.entries()) {
    v1::NodeCosts costs;
    if (costs.ParseFromString(entry.value) && prefix_ + costs.node_id() == key) {
      nodes.push_back(std::move(costs));
    }
  }
  return nodes;
}

void CostExchange::Changed() {
  written_ = false;
  write_.Set(std::max(absl::ZeroDuration(), last_write_ + kLeastInterval - scheduler_->now()));
}

void CostExchange::Write() {
  if (written_ || busy_ || lease_ == EtcdLease{}) return;
  busy_ = true;
  written_ = true;
  last_write_ = scheduler_->now();
  EtcdTransaction transaction;
  transaction.writes.push_back({.key = key_, .value = own_->SerializeAsString(), .lease = lease_});
  etcd_->Commit(std::move(transaction), kTimeout,
                life_.Guard([this](const absl::StatusOr<EtcdOutcome>& outcome) {
                  busy_ = false;
                  if (!outcome.ok()) written_ = false;
                  if (!written_) write_.Set(kRetryAfter);
                }));
}

}  // namespace latentd
