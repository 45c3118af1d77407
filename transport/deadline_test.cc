#include "transport/deadline.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

TEST_CASE("a deadline is the same after the trip, to the microsecond and never later") {
  for (const int64_t ns : {1000, 1001, 1999, 123'456'789}) {
    const absl::Time deadline = kNow + absl::Nanoseconds(ns);
    const absl::Time arrived = DeadlineFromUsLeft(DeadlineUsLeft(deadline, kNow), kNow);
    CHECK(arrived <= deadline);
    CHECK(deadline - arrived < absl::Microseconds(1));
  }
}

TEST_CASE("a deadline that is over has nothing left") {
  CHECK(DeadlineUsLeft(kNow, kNow) == 0);
  CHECK(DeadlineUsLeft(kNow - absl::Hours(1), kNow) == 0);
  CHECK(DeadlineUsLeft(absl::InfinitePast(), kNow) == 0);
}

TEST_CASE("a far deadline is cut to what fits") {
  CHECK(DeadlineUsLeft(absl::InfiniteFuture(), kNow) == UINT32_MAX);
  CHECK(DeadlineUsLeft(kNow + absl::Hours(2), kNow) == UINT32_MAX);
}

}  // namespace
}  // namespace latentd
