// Waiting for a condition, bounded in time: what tests do instead of sleeping. Any thread.
#ifndef LATENTD_TESTS_CLUSTER_EVENTUALLY_H_
#define LATENTD_TESTS_CLUSTER_EVENTUALLY_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace latentd::testing {

// Asks `condition` every few milliseconds until it holds or `limit` has passed; returns whether it
// held.
template <typename Condition>
bool Eventually(absl::Duration limit, Condition&& condition) {
  const absl::Time end = absl::Now() + limit;
  while (!condition()) {
    if (absl::Now() >= end) return false;
    absl::SleepFor(absl::Milliseconds(3));
  }
  return true;
}

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_EVENTUALLY_H_
