#include "daemon/engine/admission.h"

#include <catch2/catch.hpp>

#include <string>

#include "transport/errors.h"

namespace latentd {
namespace {

bool Mentions(const absl::Status& status, const std::string& text) {
  return status.ToString().find(text) != std::string::npos;
}

TEST_CASE("a session beyond its requests is refused at once and told when to come back") {
  Admission admission({.session_requests = 2});
  InFlight alice, bob;
  REQUIRE(admission.Admit(alice, 10).ok());
  REQUIRE(admission.Admit(alice, 10).ok());
  const absl::Status status = admission.Admit(alice, 10);
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(Mentions(status, "session"));
  CHECK(Mentions(status, "2 requests"));
  CHECK(RetryAfter(status).has_value());
  CHECK(admission.Admit(bob, 10).ok());
  admission.ReleaseWorking(alice, 10);
  CHECK(admission.Admit(alice, 10).ok());
}

TEST_CASE("bytes in flight are bounded, for the session and for the lane") {
  Admission admission({.session_bytes = 100, .lane_bytes = 150});
  InFlight alice, bob;
  REQUIRE(admission.Admit(alice, 100).ok());
  CHECK(Mentions(admission.Admit(alice, 1), "the session has 100 of 100"));
  CHECK(Mentions(admission.Admit(bob, 51), "the lane has 100 of 150"));
  CHECK(admission.Admit(bob, 50).ok());
}

TEST_CASE("a request that could never be admitted gets no hint to retry") {
  Admission admission({.session_bytes = 100});
  InFlight alice;
  const absl::Status status = admission.Admit(alice, 101);
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK_FALSE(RetryAfter(status).has_value());
  CHECK_FALSE(admission.Admit(alice, UINT64_MAX).ok());
}

TEST_CASE("a refused request counts for nothing") {
  Admission admission({.session_requests = 9, .lane_requests = 1});
  InFlight alice, bob;
  REQUIRE(admission.Admit(alice, 10).ok());
  CHECK(Mentions(admission.Admit(bob, 10), "the lane"));
  CHECK(bob == InFlight{});
  CHECK(admission.lane().working == Usage{1, 10});
  admission.ReleaseWorking(alice, 10);
  CHECK(alice == InFlight{});
  CHECK(admission.lane() == InFlight{});
}

TEST_CASE("replies that are leaving do not stand in the way of a client that has read them") {
  Admission admission({.session_requests = 2});
  InFlight alice;
  for (int i = 0; i < 2; ++i) {
    REQUIRE(admission.Admit(alice, 10).ok());
    REQUIRE(admission.Admit(alice, 10).ok());
    admission.StartLeaving(alice, 10);
    admission.StartLeaving(alice, 10);
  }
  CHECK(alice.requests() == 4);
  CHECK(alice.bytes() == 40);
  // But one that goes on without reading is refused.
  CHECK(Mentions(admission.Admit(alice, 10), "4 replies"));
  for (int i = 0; i < 4; ++i) admission.ReleaseLeaving(alice, 10);
  CHECK(alice == InFlight{});
  CHECK(admission.lane() == InFlight{});
  CHECK(admission.Admit(alice, 10).ok());
}

}  // namespace
}  // namespace latentd
