#include "daemon/calibration/cost_ledger.h"

#include <algorithm>

namespace latentd {

CostLedger::CostLedger(const NodeId& node, Generation generation, RecordFormat format,
                       absl::Duration period)
    : format_(format) {
  head_.set_node_id(node);
  head_.set_generation(ToInt(generation));
  head_.set_period_ms(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(std::min(period, kMostPeriod))));
}

void CostLedger::SetLane(uint32_t lane, const LaneTables& tables, absl::Time now) {
  std::vector<v1::ComputeCosts> both = {
      ToProto(tables.latency, format_, ComputeRegime::kLatency, lane, now),
      ToProto(tables.throughput, format_, ComputeRegime::kThroughput, lane, now)};
  const std::lock_guard<std::mutex> lock(mutex_);
  lanes_[lane] = std::move(both);
  measured_ = std::max(measured_, now);
}

void CostLedger::SetLink(const PeerLink& link) {
  v1::LinkCosts message = ToProto(link);
  const std::lock_guard<std::mutex> lock(mutex_);
  links_[link.peer] = std::move(message);
  measured_ = std::max(measured_, link.measured);
}

void CostLedger::DropLink(const NodeId& peer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  links_.erase(peer);
}

v1::NodeCosts CostLedger::message() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  v1::NodeCosts message = head_;
  if (measured_ != absl::InfinitePast()) {
    message.set_measured_unix_ms(absl::ToUnixMillis(measured_));
  }
  for (const auto& [lane, tables] : lanes_) {
    for (const v1::ComputeCosts& table : tables) *message.add_compute() = table;
  }
  for (const auto& [peer, link] : links_) *message.add_links() = link;
  return message;
}

size_t CostLedger::links() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return links_.size();
}

}  // namespace latentd
