// `CircuitBreaker` says whether a node should be asked at all, by what became of the requests that
// it was sent. A failure is one of the connection: no answer came, or none in time. An answer, be
// it an error, is a success.
//
//               a request is sent          success   failure               the probe was dropped
//     closed    -                          closed    count; after          -
//                                                    `failures`: open
//     open      backoff over: half_open    closed    backoff over: open,   -
//                                                    for longer
//     half_open -                          closed    open, for longer      open, to be probed again
//
// One outage fails all that was under way and counts once: failures of requests that were sent
// before the last failure are passed over. Who has nobody else to ask asks all the same; the
// breaker only says what to prefer.
//
// Pure: time and randomness come in as arguments. Not synchronised.
#ifndef LATENTD_CLIENT_CIRCUIT_BREAKER_H_
#define LATENTD_CLIENT_CIRCUIT_BREAKER_H_

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"

namespace latentd {

struct CircuitBreakerOptions {
  uint32_t failures = 3;  // in a row, that open it; 0: it stays closed
  // Each failed probe doubles the backoff; what is waited is between half of it and all of it.
  absl::Duration least_backoff = absl::Milliseconds(100);
  absl::Duration most_backoff = absl::Seconds(5);
};

enum class BreakerState : uint8_t { kClosed, kOpen, kHalfOpen };

std::string_view BreakerStateName(BreakerState state);

class CircuitBreaker {
 public:
  explicit CircuitBreaker(const CircuitBreakerOptions& options) : options_(options) {}

  BreakerState state() const { return state_; }
  // In a row, so far.
  uint32_t failures() const { return failures_; }
  uint64_t times_opened() const { return times_opened_; }
  // Whether a request may go there though others could take it.
  bool Allows(uint64_t now_ns) const {
    return state_ == BreakerState::kClosed ||
           (state_ == BreakerState::kOpen && now_ns >= retry_at_ns_);
  }

  // Returns whether the request is the probe, of which OnProbeDropped is to be told if neither
  // success nor failure comes of it.
  bool OnSent(uint64_t now_ns);
  void OnSuccess();
  // `sent_ns`: of the request that failed.
  void OnFailure(uint64_t sent_ns, uint64_t now_ns, uint64_t random);
  void OnProbeDropped();

 private:
  void Open(uint64_t now_ns, uint64_t random);

  const CircuitBreakerOptions options_;
  BreakerState state_ = BreakerState::kClosed;
  uint32_t failures_ = 0;
  uint64_t times_opened_ = 0;
  uint64_t last_failure_ns_ = 0;
  uint64_t backoff_ns_ = 0;
  uint64_t retry_at_ns_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_CIRCUIT_BREAKER_H_
