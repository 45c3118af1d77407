#include "client/hedging.h"

#include <algorithm>

namespace latentd {
namespace {

constexpr double kMostSaved = 10;

}  // namespace

std::optional<uint64_t> HedgeDelayNs(const HedgeOptions& options, const LatencyEstimate& latency) {
  if (options.quantile <= 0) return std::nullopt;
  const std::optional<uint64_t> quantile_ns = latency.QuantileNs(std::min(options.quantile, 1.0));
  if (!quantile_ns.has_value()) return std::nullopt;
  return std::max(*quantile_ns, static_cast<uint64_t>(
                                    std::max<int64_t>(absl::ToInt64Nanoseconds(options.floor), 0)));
}

HedgeBudget::HedgeBudget(double max_share) : share_(std::clamp(max_share, 0.0, 1.0)) {}

void HedgeBudget::OnRequest() { saved_ = std::min(saved_ + share_, kMostSaved); }

bool HedgeBudget::Take() {
  if (saved_ < 1) return false;
  saved_ -= 1;
  return true;
}

}  // namespace latentd
