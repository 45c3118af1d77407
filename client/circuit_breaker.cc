#include "client/circuit_breaker.h"

#include <algorithm>

namespace latentd {
namespace {

uint64_t Nanos(absl::Duration duration) {
  return static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Nanoseconds(duration), 1));
}

}  // namespace

std::string_view BreakerStateName(BreakerState state) {
  switch (state) {
    case BreakerState::kClosed:
      return "closed";
    case BreakerState::kOpen:
      return "open";
    case BreakerState::kHalfOpen:
      return "half-open";
  }
  return "?";
}

bool CircuitBreaker::OnSent(uint64_t now_ns) {
  if (state_ != BreakerState::kOpen || now_ns < retry_at_ns_) return false;
  state_ = BreakerState::kHalfOpen;
  return true;
}

void CircuitBreaker::OnSuccess() {
  state_ = BreakerState::kClosed;
  failures_ = 0;
  backoff_ns_ = 0;
}

void CircuitBreaker::OnFailure(uint64_t sent_ns, uint64_t now_ns, uint64_t random) {
  if (sent_ns < last_failure_ns_) return;
  switch (state_) {
    case BreakerState::kClosed:
      last_failure_ns_ = now_ns;
      ++failures_;
      if (options_.failures > 0 && failures_ >= options_.failures) {
        ++times_opened_;
        Open(now_ns, random);
      }
      return;
    case BreakerState::kOpen:
      if (now_ns < retry_at_ns_) return;
      [[fallthrough]];
    case BreakerState::kHalfOpen:
      last_failure_ns_ = now_ns;
      ++failures_;
      Open(now_ns, random);
      return;
  }
}

void CircuitBreaker::OnProbeDropped() {
  if (state_ == BreakerState::kHalfOpen) state_ = BreakerState::kOpen;
}

void CircuitBreaker::Open(uint64_t now_ns, uint64_t random) {
  state_ = BreakerState::kOpen;
  backoff_ns_ = std::clamp(2 * backoff_ns_, Nanos(options_.least_backoff),
                           std::max(Nanos(options_.least_backoff), Nanos(options_.most_backoff)));
  const uint64_t half_ns = backoff_ns_ / 2;
  retry_at_ns_ = now_ns + half_ns + random % (backoff_ns_ - half_ns + 1);
}

}  // namespace latentd
