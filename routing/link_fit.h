// What a pair's link costs, from timed messages of several sizes: µs = fixed + bytes / bandwidth.
// Both constants come out of one fit: a latency timed alone and a bandwidth of huge messages miss
// what messages of tens of KB cost, which is what queries are.
//
// Pure functions; any thread.
#ifndef LATENTD_ROUTING_LINK_FIT_H_
#define LATENTD_ROUTING_LINK_FIT_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"

namespace latentd {

struct LinkSample {
  uint64_t bytes = 0;
  double us = 0;
};

struct LinkFit {
  double fixed_us = 0;  // of a message without bytes
  double bandwidth_bytes_per_us = 0;
  double relative_error = 0;  // mean of |fit / median of the size - 1| over the sizes
};

inline constexpr uint64_t kMaxLinkSizes = 256;

// The median of each size first; then Theil and Sen's slope over pairs of sizes, a pair counting
// by the distance between its sizes; then the median of what the slope leaves, a size counting by
// 1 / µs so that the long messages' noise does not drown the short ones. Up to half of a size's
// samples and about a quarter of the sizes may be off.
// INVALID_ARGUMENT: fewer than two sizes, more than kMaxLinkSizes, a time that is not finite and
// positive. FAILED_PRECONDITION: more bytes do not take longer, so there is no bandwidth to speak
// of; time larger messages.
absl::StatusOr<LinkFit> FitLink(std::span<const LinkSample> samples);

}  // namespace latentd

#endif  // LATENTD_ROUTING_LINK_FIT_H_
