#include "daemon/replication/copy_rate.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

const absl::Time kStart = absl::UnixEpoch();

TEST_CASE("a slow copy whose bytes come every few seconds has a rate all the time") {
  CopyRate rate;
  constexpr uint64_t kMib = uint64_t{1} << 20;
  for (int tick = 0; tick < 300; ++tick) {  // 1 MiB/s, in ranges of 4 MiB
    const absl::Time now = kStart + absl::Milliseconds(200) * tick;
    rate.Note(static_cast<uint64_t>(tick / 20) * 4 * kMib, true, now);
    if (tick < 50) continue;
    CHECK(rate.per_second() >= 0.7 * kMib);
    CHECK(rate.per_second() <= 1.3 * kMib);
  }
}

TEST_CASE("the rate forgets what was long ago, and is nothing when nothing is copied") {
  CopyRate rate;
  rate.Note(0, true, kStart);
  CHECK(rate.per_second() == 0);
  rate.Note(1000, true, kStart + absl::Seconds(1));
  CHECK(rate.per_second() == 1000);
  rate.Note(1000, true, kStart + absl::Seconds(12));
  CHECK(rate.per_second() == 0);
  rate.Note(5000, true, kStart + absl::Seconds(13));
  CHECK(rate.per_second() == 4000);
  rate.Note(5000, false, kStart + absl::Seconds(14));
  CHECK(rate.per_second() == 0);
}

}  // namespace
}  // namespace latentd
