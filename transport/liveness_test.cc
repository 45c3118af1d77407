#include "transport/liveness.h"

#include <algorithm>
#include <random>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

using State = Liveness::State;
using Action = Liveness::Action;

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);
const LivenessOptions kOptions = {.ping_after = absl::Milliseconds(500),
                                  .dead_after = absl::Seconds(2)};

absl::Time At(int64_t ms) { return kStart + absl::Milliseconds(ms); }

TEST_CASE("a peer that is asked nothing is not pinged, however long it is silent") {
  Liveness peer(kOptions, kStart);
  CHECK(peer.Tick(At(1'000'000)) == Action::kNothing);
  CHECK(peer.state() == State::kIdle);
  CHECK(peer.next_tick() == absl::InfiniteFuture());
}

TEST_CASE("with idle pings a peer that is asked nothing is pinged all the same") {
  LivenessOptions options = kOptions;
  options.idle_ping_after = absl::Seconds(10);
  Liveness peer(options, kStart);
  CHECK(peer.Tick(At(9'999)) == Action::kNothing);
  CHECK(peer.Tick(At(10'000)) == Action::kPing);
  CHECK(peer.Tick(At(11'999)) == Action::kNothing);
  CHECK(peer.Tick(At(12'000)) == Action::kDead);
}

TEST_CASE("a peer that owes an answer is pinged after a silence and dead after another") {
  Liveness peer(kOptions, kStart);
  peer.OnSent(At(1000));
  CHECK(peer.state() == State::kWaiting);
  CHECK(peer.next_tick() == At(1500));
  CHECK(peer.Tick(At(1499)) == Action::kNothing);
  CHECK(peer.Tick(At(1500)) == Action::kPing);
  CHECK(peer.state() == State::kProbing);
  CHECK(peer.next_tick() == At(3500));
  CHECK(peer.Tick(At(3499)) == Action::kNothing);
  CHECK(peer.Tick(At(3500)) == Action::kDead);
  CHECK(peer.state() == State::kDead);
}

TEST_CASE("a long pause before a request is not held against the peer") {
  Liveness peer(kOptions, kStart);
  peer.OnSent(At(100'000));
  CHECK(peer.Tick(At(100'001)) == Action::kNothing);
}

TEST_CASE("any word from the peer ends the probe") {
  Liveness peer(kOptions, kStart);
  peer.OnSent(At(0));
  REQUIRE(peer.Tick(At(500)) == Action::kPing);
  peer.OnHeard(At(2400));
  CHECK(peer.state() == State::kWaiting);
  CHECK(peer.Tick(At(2500)) == Action::kNothing);
  CHECK(peer.Tick(At(2900)) == Action::kPing);
}

TEST_CASE("giving up the last request does not call off a probe") {
  Liveness peer(kOptions, kStart);
  peer.OnSent(At(0));
  REQUIRE(peer.Tick(At(500)) == Action::kPing);
  peer.OnSettled(At(600));
  CHECK(peer.state() == State::kProbing);
  CHECK(peer.Tick(At(2500)) == Action::kDead);
}

TEST_CASE("an answered probe with nothing out goes back to idle") {
  Liveness peer(kOptions, kStart);
  peer.OnSent(At(0));
  REQUIRE(peer.Tick(At(500)) == Action::kPing);
  peer.OnSettled(At(600));
  peer.OnHeard(At(700));
  CHECK(peer.state() == State::kIdle);
}

TEST_CASE("an owner that slept asks before it buries") {
  Liveness peer(kOptions, kStart);
  peer.OnSent(At(0));
  CHECK(peer.Tick(At(60'000)) == Action::kPing);
  CHECK(peer.Tick(At(60'001)) == Action::kNothing);
}

TEST_CASE("a clock that steps back changes nothing") {
  Liveness peer(kOptions, kStart);
  peer.OnSent(At(1000));
  CHECK(peer.Tick(At(-5000)) == Action::kNothing);
  CHECK(peer.Tick(At(1400)) == Action::kNothing);
  CHECK(peer.Tick(At(1500)) == Action::kPing);
}

TEST_CASE("death is final and said once") {
  Liveness peer(kOptions, kStart);
  peer.OnSent(At(0));
  peer.Tick(At(500));
  REQUIRE(peer.Tick(At(2500)) == Action::kDead);
  peer.OnHeard(At(2600));
  peer.OnSent(At(2600));
  CHECK(peer.Tick(At(9999)) == Action::kNothing);
  CHECK(peer.state() == State::kDead);
}

TEST_CASE("more settled than sent is taken for none out") {
  Liveness peer(kOptions, kStart);
  peer.OnSettled(At(0));
  CHECK(peer.outstanding() == 0);
  CHECK(peer.state() == State::kIdle);
}

// A random history with its own, simpler account of what happened.
struct History {
  explicit History(uint32_t seed) : random(seed) {
    options.ping_after = absl::Milliseconds(1 + random() % 1000);
    options.dead_after = absl::Milliseconds(1 + random() % 3000);
    if (random() % 2 == 0) options.idle_ping_after = absl::Milliseconds(1 + random() % 5000);
  }
  std::mt19937 random;
  LivenessOptions options;
};

TEST_CASE("in any history: no death without an unanswered ping, and pings keep their distance") {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    INFO("seed " << seed);
    History history(seed);
    Liveness peer(history.options, kStart);
    absl::Time now = kStart;
    absl::Time last_ping = absl::InfinitePast();
    absl::Time last_heard = kStart;
    uint64_t outstanding = 0;
    int deaths = 0;
    for (int step = 0; step < 400; ++step) {
      now += absl::Milliseconds(history.random() % 200);
      switch (history.random() % 8) {
        case 0:
          peer.OnHeard(now);
          last_heard = now;
          break;
        case 1:
          peer.OnSent(now);
          ++outstanding;
          break;
        case 2:
          peer.OnSettled(now);
          outstanding -= outstanding > 0 ? 1 : 0;
          break;
        default: {
          const bool due = now >= peer.next_tick();
          const Action action = peer.Tick(now);
          REQUIRE((action != Action::kNothing) == due);
          if (action == Action::kPing) {
            REQUIRE(deaths == 0);
            // The last ping was answered, and silence was long enough.
            REQUIRE(last_heard >= last_ping);
            const absl::Duration silence =
                outstanding > 0 ? history.options.ping_after : history.options.idle_ping_after;
            REQUIRE(now - last_heard >= silence);
            last_ping = now;
          }
          if (action == Action::kDead) {
            REQUIRE(last_heard <= last_ping);
            REQUIRE(now - last_ping >= history.options.dead_after);
            ++deaths;
          }
        }
      }
      REQUIRE(deaths <= 1);
      REQUIRE((peer.state() == State::kDead) == (deaths == 1));
      if (deaths == 0) REQUIRE(peer.outstanding() == outstanding);
    }
  }
}

TEST_CASE("in any history: a peer that falls silent while it owes an answer is dead in time") {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    INFO("seed " << seed);
    History history(seed);
    Liveness peer(history.options, kStart);
    absl::Time now = kStart;
    for (int step = 0; step < 50; ++step) {
      now += absl::Milliseconds(history.random() % 200);
      peer.OnSent(now);
      if (history.random() % 3 != 0) peer.OnHeard(now);
      peer.Tick(now);
    }
    const absl::Time silent = now;
    const absl::Duration step = absl::Milliseconds(10);
    while (peer.state() != State::kDead) {
      now += step;
      peer.Tick(now);
      REQUIRE(now - silent <= history.options.ping_after + history.options.dead_after + 2 * step);
    }
  }
}

TEST_CASE("in any history: a peer that answers every ping never dies") {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    INFO("seed " << seed);
    History history(seed);
    Liveness peer(history.options, kStart);
    absl::Time now = kStart;
    for (int step = 0; step < 500; ++step) {
      now += absl::Milliseconds(history.random() % 100);
      if (history.random() % 4 == 0) peer.OnSent(now);
      if (history.random() % 4 == 0) peer.OnSettled(now);
      if (peer.Tick(now) == Action::kPing) peer.OnHeard(now + history.options.dead_after / 2);
      REQUIRE(peer.state() != State::kDead);
    }
  }
}

}  // namespace
}  // namespace latentd
