// The lane's clock: absl::Time counted from an arbitrary origin by the steady clock. Never compare
// it with absl::Now(). Any thread.
#ifndef LATENTD_DAEMON_LANE_STEADY_TIME_H_
#define LATENTD_DAEMON_LANE_STEADY_TIME_H_

#include <chrono>

#include "absl/time/time.h"

namespace latentd {

inline absl::Time SteadyNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_STEADY_TIME_H_
