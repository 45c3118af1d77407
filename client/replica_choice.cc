#include "client/replica_choice.h"

#include <algorithm>
#include <cmath>

namespace latentd {
namespace {

// Of the average's fading.
constexpr double kTimeConstantNs = 500e6;
// What a request to anybody takes besides: differences far below it are none.
constexpr uint64_t kWireNs = 20'000;
// No report is taken to mean more: 18 minutes.
constexpr uint64_t kMostNs = uint64_t{1} << 40;

double Remains(uint64_t from_ns, uint64_t to_ns) {
  return to_ns <= from_ns ? 1 : std::exp(-static_cast<double>(to_ns - from_ns) / kTimeConstantNs);
}

}  // namespace

uint64_t ExpectedNs(const LoadReport& report) {
  const double row_ns =
      static_cast<double>(report.compute_ns) / std::max<uint32_t>(report.batch_rows, 1);
  const double expected = static_cast<double>(report.queue_ns) +
                          static_cast<double>(report.compute_ns) + row_ns * report.lane_rows_queued;
  return static_cast<uint64_t>(std::min(expected, static_cast<double>(kMostNs)));
}

void LaneLoad::OnReport(uint64_t expected_ns, uint64_t now_ns) {
  expected_ns = std::min(expected_ns, kMostNs);
  if (!reported_) {
    average_ns_ = expected_ns;
  } else {
    // At least a tenth is news: bursts of answers come within less than the average would notice.
    const double old = std::min(Remains(at_ns_, now_ns), 0.9);
    average_ns_ = static_cast<uint64_t>(old * static_cast<double>(average_ns_) +
                                        (1 - old) * static_cast<double>(expected_ns));
  }
  reported_ = true;
  at_ns_ = now_ns;
}

uint64_t LaneLoad::AverageNs(uint64_t now_ns) const {
  return static_cast<uint64_t>(static_cast<double>(average_ns_) * Remains(at_ns_, now_ns));
}

uint64_t LaneLoad::CostNs(uint64_t now_ns) const {
  return (kWireNs + AverageNs(now_ns)) * (uint64_t{in_flight_} + 1);
}

size_t ChooseReplica(std::span<const LaneLoad* const> loads, uint64_t now_ns, uint64_t random) {
  if (loads.size() < 2) return 0;
  const auto reported = [](const LaneLoad* load) { return load != nullptr && load->reported(); };
  if (std::none_of(loads.begin(), loads.end(), reported)) return 0;
  const size_t other = 1 + random % (loads.size() - 1);
  const auto cost = [&](size_t i) {
    return loads[i] == nullptr ? kWireNs : loads[i]->CostNs(now_ns);
  };
  return cost(other) < cost(0) - cost(0) / 8 ? other : 0;
}

}  // namespace latentd
