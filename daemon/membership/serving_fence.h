// `ServingFence` says until when this node may answer: the authority may have given its slots to
// others after that. Whoever keeps the node's lease moves it on; every lane looks at it before it
// admits a request and before it sends an answer. It also says why it is closed, for whoever is
// refused: few of the reasons are a lease that was lost.
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

enum class FenceReason : uint8_t {
  kLeaseLost,    // or not heard of in time, which nobody has to notice for the fence to close
  kNotJoined,    // the authority has not answered yet
  kIdTaken,      // another daemon has the node's id
  kTableUnread,  // the newest routing table cannot be followed
  kTableBehind,  // what others may go by has not come here yet
  kOtherLife,    // the routing table speaks of another life of the node
  kLeft,         // it stops
};

// Goes on after "node x ".
constexpr const char* FenceReasonText(FenceReason reason) {
  switch (reason) {
    case FenceReason::kLeaseLost:
      return "has lost its lease: its slots may be others' by now";
    case FenceReason::kNotJoined:
      return "has not joined its cluster yet";
    case FenceReason::kIdTaken:
      return "is refused by its cluster: another daemon has this node id";
    case FenceReason::kTableUnread:
      return "cannot follow the newest routing table: its slots may be others' by now";
    case FenceReason::kTableBehind:
      return "waits for the newest routing table";
    case FenceReason::kOtherLife:
      return "waits for a routing table that knows of this life of it";
    case FenceReason::kLeft:
      return "has left its cluster";
  }
  return "may not answer";
}

class ServingFence {
 public:
  // The clock that fences go by: steady, and it goes on while the machine sleeps, as a lease does.
  static absl::Time Now() {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return absl::TimeFromTimespec(now);
  }

  // Open for ever until the first call of this. `reason` counts from `until` on.
  void ServeUntil(absl::Time until, FenceReason reason = FenceReason::kLeaseLost) {
    reason_.store(reason, std::memory_order_relaxed);
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
  // Means nothing while it is open.
  FenceReason reason() const { return reason_.load(std::memory_order_relaxed); }

 private:
  static constexpr int64_t kForever = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> until_ns_{kForever};
  std::atomic<FenceReason> reason_{FenceReason::kLeaseLost};
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_SERVING_FENCE_H_
