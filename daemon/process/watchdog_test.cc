#include "daemon/process/watchdog.h"

#include <atomic>
#include <catch2/catch.hpp>

namespace latentd {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);
absl::Time At(int seconds) { return kStart + absl::Seconds(seconds); }

TEST_CASE("lanes that turn are never reported") {
  LaneWatch watch(2, absl::Seconds(5));
  for (int second = 0; second < 100; ++second) {
    CHECK_FALSE(watch.FirstStalled({At(second), At(-second)}, At(second)).has_value());
  }
}

TEST_CASE("a lane that stands still for longer than the limit is reported until it turns again") {
  LaneWatch watch(2, absl::Seconds(5));
  CHECK_FALSE(watch.FirstStalled({At(0), At(0)}, At(0)).has_value());
  CHECK_FALSE(watch.FirstStalled({At(5), At(0)}, At(5)).has_value());
  CHECK(watch.FirstStalled({At(6), At(0)}, At(6)) == std::optional<size_t>(1));
  CHECK_FALSE(watch.FirstStalled({At(7), At(7)}, At(7)).has_value());
}

TEST_CASE("a lane that has stopped does not stand still while another drains") {
  LaneWatch watch(2, absl::Seconds(5));
  for (int second = 0; second < 100; ++second) {
    const absl::Time first = second < 3 ? At(second) : absl::InfiniteFuture();
    CHECK_FALSE(watch.FirstStalled({first, At(second)}, At(second)).has_value());
  }
  CHECK(watch.FirstStalled({absl::InfiniteFuture(), At(99)}, At(105)) == std::optional<size_t>(1));
}

TEST_CASE("the lanes' clock may be another one") {
  LaneWatch watch(1, absl::Seconds(5));
  CHECK_FALSE(watch.FirstStalled({absl::UnixEpoch()}, At(0)).has_value());
  CHECK_FALSE(watch.FirstStalled({absl::UnixEpoch() + absl::Seconds(1)}, At(20)).has_value());
}

// Waits until `count` is at least `least`; false after a minute.
bool Reaches(const std::atomic<int>& count, int least) {
  for (int i = 0; i < 60'000 && count < least; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return count >= least;
}

TEST_CASE("the watchdog vouches while lanes turn and falls silent when one does not") {
  std::atomic<int> vouched = 0;
  std::atomic<int> asked = 0;
  std::atomic<int> turn = 0;
  std::atomic<bool> turning = true;
  const Watchdog watchdog(
      absl::Milliseconds(200),
      [&] {
        ++asked;
        if (turning) ++turn;
        return std::vector<absl::Time>{At(turn)};
      },
      [&] { ++vouched; });
  CHECK(Reaches(vouched, 3));
  turning = false;
  // The limit is two or three of its rounds; after some more it must be silent.
  CHECK(Reaches(asked, asked + 6));
  const int silent = vouched;
  CHECK(Reaches(asked, asked + 3));
  CHECK(vouched == silent);
  turning = true;
  CHECK(Reaches(vouched, silent + 1));
}

}  // namespace
}  // namespace latentd
