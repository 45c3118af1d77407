#include "client/node_records.h"

#include <algorithm>

namespace latentd {

LaneRecord& NodeRecord::lane(uint32_t lane) {
  if (lane >= lanes_.size()) lanes_.resize(lane + 1);
  return lanes_[lane];
}

const LaneRecord* NodeRecord::FindLane(uint32_t lane) const {
  return lane < lanes_.size() ? &lanes_[lane] : nullptr;
}

uint32_t NodeRecord::in_flight() const {
  uint32_t in_flight = 0;
  for (const LaneRecord& lane : lanes_) in_flight += lane.load.in_flight();
  return in_flight;
}

NodeHealth NodeRecord::Report(uint64_t now_ns) const {
  NodeHealth health = {.node = id,
                       .breaker = breaker.state(),
                       .failures = breaker.failures(),
                       .times_opened = breaker.times_opened()};
  for (const LaneRecord& lane : lanes_) {
    health.lanes.push_back(
        {.in_flight = lane.load.in_flight(),
         .expected = absl::Nanoseconds(lane.load.AverageNs(now_ns)),
         .latency_p50 = absl::Nanoseconds(lane.latency.QuantileNs(0.5).value_or(0)),
         .latency_p95 = absl::Nanoseconds(lane.latency.QuantileNs(0.95).value_or(0))});
  }
  return health;
}

NodeRecord& NodeRecords::At(const NodeId& id) {
  std::unique_ptr<NodeRecord>& record = records_[id];
  if (record == nullptr) record = std::make_unique<NodeRecord>(id, options_);
  return *record;
}

const NodeRecord* NodeRecords::Find(const NodeId& id) const {
  const auto found = records_.find(id);
  return found == records_.end() ? nullptr : found->second.get();
}

void NodeRecords::Keep(const RoutingTable& table) {
  absl::erase_if(records_, [&](const auto& entry) {
    return entry.second->in_flight() == 0 && !table.FindNode(entry.first).has_value();
  });
}

std::vector<NodeHealth> NodeRecords::Report(uint64_t now_ns) const {
  std::vector<NodeHealth> report;
  for (const auto& [id, record] : records_) report.push_back(record->Report(now_ns));
  std::sort(report.begin(), report.end(),
            [](const NodeHealth& a, const NodeHealth& b) { return a.node < b.node; });
  return report;
}

}  // namespace latentd
