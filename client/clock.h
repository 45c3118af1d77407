// The clock of the data path: steady, in nanoseconds, cheap to read.
#ifndef LATENTD_CLIENT_CLOCK_H_
#define LATENTD_CLIENT_CLOCK_H_

#include <chrono>
#include <cstdint>
#include <limits>

#include "absl/time/time.h"

namespace latentd {

inline constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

inline uint64_t SteadyNanos() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

inline double MicrosecondsSince(uint64_t start_ns) {
  return static_cast<double>(SteadyNanos() - start_ns) * 1e-3;
}

// The same moment for those who count in absl::Time. Not the time of day.
inline absl::Time SteadyTime(uint64_t steady_ns) {
  return absl::FromUnixNanos(static_cast<int64_t>(steady_ns));
}
inline uint64_t SteadyNanosOf(absl::Time time) {
  return time == absl::InfiniteFuture() ? kNever : static_cast<uint64_t>(absl::ToUnixNanos(time));
}

}  // namespace latentd

#endif  // LATENTD_CLIENT_CLOCK_H_
