// Deadlines as they travel: the microseconds left when a message was sent. Hosts need not agree on
// the time; what the message spent on its way is lost to the receiver, who works at most that much
// too long. Pure.
#ifndef LATENTD_TRANSPORT_DEADLINE_H_
#define LATENTD_TRANSPORT_DEADLINE_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace latentd {

// Rounded down, so that the receiver never believes in more time than there is; 0 when it is over.
// Beyond 71 minutes (2^32 µs) everything is 71 minutes.
inline uint32_t DeadlineUsLeft(absl::Time deadline, absl::Time now) {
  const absl::Duration left = deadline - now;
  if (left <= absl::ZeroDuration()) return 0;
  if (left >= absl::Microseconds(UINT32_MAX)) return UINT32_MAX;
  return static_cast<uint32_t>(absl::ToInt64Microseconds(left));
}

inline absl::Time DeadlineFromUsLeft(uint32_t us_left, absl::Time arrived) {
  return arrived + absl::Microseconds(us_left);
}

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_DEADLINE_H_
