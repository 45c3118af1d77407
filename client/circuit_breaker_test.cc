#include "client/circuit_breaker.h"

#include <random>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

constexpr uint64_t kMs = 1'000'000;

CircuitBreakerOptions Options() {
  return {.failures = 3,
          .least_backoff = absl::Milliseconds(100),
          .most_backoff = absl::Milliseconds(350)};
}

// At `now_ns`, of a request sent then.
void Fail(CircuitBreaker& breaker, uint64_t now_ns, uint64_t random = 0) {
  breaker.OnFailure(now_ns, now_ns, random);
}

CircuitBreaker Opened(uint64_t now_ns) {
  CircuitBreaker breaker(Options());
  for (int i = 0; i < 3; ++i) Fail(breaker, now_ns);
  REQUIRE(breaker.state() == BreakerState::kOpen);
  return breaker;
}

TEST_CASE("failures in a row open it, a success in between does not") {
  CircuitBreaker breaker(Options());
  Fail(breaker, 1);
  Fail(breaker, 2);
  breaker.OnSuccess();
  Fail(breaker, 3);
  Fail(breaker, 4);
  CHECK(breaker.state() == BreakerState::kClosed);
  CHECK(breaker.Allows(4));
  Fail(breaker, 5);
  CHECK(breaker.state() == BreakerState::kOpen);
  CHECK(breaker.failures() == 3);
  CHECK(breaker.times_opened() == 1);
  CHECK_FALSE(breaker.Allows(6));
}

TEST_CASE("one outage counts once, however much was under way") {
  CircuitBreaker breaker(Options());
  for (uint64_t sent_ns = 1; sent_ns < 100; ++sent_ns) breaker.OnFailure(sent_ns, 100, 0);
  CHECK(breaker.failures() == 1);
  breaker.OnFailure(101, 102, 0);
  CHECK(breaker.failures() == 2);
}

TEST_CASE("after the backoff one probe is let through, and its answer closes it") {
  CircuitBreaker breaker = Opened(10 * kMs);
  CHECK_FALSE(breaker.OnSent(59 * kMs));
  CHECK(breaker.Allows(60 * kMs));
  CHECK(breaker.OnSent(60 * kMs));
  CHECK(breaker.state() == BreakerState::kHalfOpen);
  CHECK_FALSE(breaker.Allows(1000 * kMs));
  CHECK_FALSE(breaker.OnSent(1000 * kMs));
  breaker.OnSuccess();
  CHECK(breaker.state() == BreakerState::kClosed);
  CHECK(breaker.failures() == 0);
}

TEST_CASE("a probe that fails opens it for longer, up to the longest") {
  CircuitBreaker breaker = Opened(0);
  uint64_t now_ns = 0;
  for (const uint64_t least_ms : {50, 100, 175, 175}) {
    CHECK_FALSE(breaker.Allows(now_ns + least_ms * kMs - 1));
    now_ns += least_ms * kMs;
    REQUIRE(breaker.OnSent(now_ns));
    Fail(breaker, now_ns);
  }
  CHECK(breaker.times_opened() == 1);
}

TEST_CASE("a failure while it is open counts only once the backoff is over") {
  CircuitBreaker breaker = Opened(0);
  Fail(breaker, 20 * kMs);
  CHECK(breaker.Allows(50 * kMs));
  Fail(breaker, 50 * kMs);  // of a session that was asked for
  CHECK(breaker.state() == BreakerState::kOpen);
  CHECK_FALSE(breaker.Allows(149 * kMs));
  CHECK(breaker.Allows(150 * kMs));
}

TEST_CASE("a probe that was dropped leaves room for another") {
  CircuitBreaker breaker = Opened(0);
  REQUIRE(breaker.OnSent(60 * kMs));
  breaker.OnProbeDropped();
  CHECK(breaker.state() == BreakerState::kOpen);
  CHECK(breaker.OnSent(60 * kMs));
}

TEST_CASE("an answer that is late closes it as well") {
  CircuitBreaker breaker = Opened(0);
  breaker.OnSuccess();
  CHECK(breaker.Allows(1));
}

TEST_CASE("with no number of failures it never opens") {
  CircuitBreaker breaker({.failures = 0});
  for (uint64_t now_ns = 1; now_ns < 100; ++now_ns) Fail(breaker, now_ns);
  CHECK(breaker.Allows(100));
}

TEST_CASE("the wait is between half the backoff and all of it") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 1000; ++i) {
    CircuitBreaker breaker(Options());
    Fail(breaker, 0);
    Fail(breaker, 0);
    Fail(breaker, 0, random());
    CHECK_FALSE(breaker.Allows(50 * kMs - 1));
    CHECK(breaker.Allows(100 * kMs));
  }
}

}  // namespace
}  // namespace latentd
