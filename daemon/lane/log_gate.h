// `LogGate` lets a few messages a second through, so that a peer cannot flood the log, and says how
// many it held back. Lane thread only.
#ifndef LATENTD_DAEMON_LANE_LOG_GATE_H_
#define LATENTD_DAEMON_LANE_LOG_GATE_H_

#include <cstdint>

#include "absl/time/time.h"

namespace latentd {

class LogGate {
 public:
  explicit LogGate(uint32_t per_second = 5) : per_second_(per_second) {}

  bool Open(absl::Time now) {
    if (now - since_ >= absl::Seconds(1)) {
      since_ = now;
      passed_ = 0;
    }
    if (passed_ < per_second_) {
      ++passed_;
      return true;
    }
    ++held_back_;
    return false;
  }
  // Held back since the last call.
  uint64_t TakeHeldBack() {
    const uint64_t n = held_back_;
    held_back_ = 0;
    return n;
  }

 private:
  const uint32_t per_second_;
  absl::Time since_ = absl::InfinitePast();
  uint32_t passed_ = 0;
  uint64_t held_back_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_LOG_GATE_H_
