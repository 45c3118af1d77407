// `ServingFence` says until when this node may answer: the authority may have given its slots to
// others after that. Whoever keeps the node's lease moves it on; every lane looks at it before it
// admits a request and before it sends an answer.
//
// Any thread; reading takes one load and one look at the clock.
#ifndef LATENTD_DAEMON_MEMBERSHIP_SERVING_FENCE_H_
#define LATENTD_DAEMON_MEMBERSHIP_SERVING_FENCE_H_

#include <time.h>

#include <atomic>
#include <cstdint>
#include <limits>

#include "absl/time/time.h"

namespace latentd {

class ServingFence {
 public:
  // The clock that fences go by: steady, and it goes on while the machine sleeps, as a lease does.
  static absl::Time Now() {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return absl::TimeFromTimespec(now);
  }

  // Open for ever until the first call of this.
  void ServeUntil(absl::Time until) {
    until_ns_.store(until == absl::InfiniteFuture() ? kForever : absl::ToUnixNanos(until),
                    std::memory_order_release);
  }
  absl::Time until() const {
    const int64_t until = until_ns_.load(std::memory_order_acquire);
    return until == kForever ? absl::InfiniteFuture() : absl::FromUnixNanos(until);
  }
  bool closed() const {
    const int64_t until = until_ns_.load(std::memory_order_acquire);
    return until != kForever && absl::ToUnixNanos(Now()) >= until;
  }

 private:
  static constexpr int64_t kForever = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> until_ns_{kForever};
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_SERVING_FENCE_H_
