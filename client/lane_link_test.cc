#include "client/lane_link.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

constexpr LivenessRules kRules = {.ping_after_ns = 10, .dead_after_ns = 50};

LaneLink NewLink() {
  SessionInfo session;
  session.node = "a";
  session.lanes.resize(1);
  session.limits = {.inflight_requests = 4, .inflight_bytes = 1000};
  return LaneLink(session, 0);
}

TEST_CASE("a peer that owes nothing may be silent for ever") {
  LaneLink link = NewLink();
  CHECK(link.CheckLiveness(kRules, 1'000'000) == LivenessStep::kNothing);
  link.Owed(100);
  link.Settled();
  CHECK(link.CheckLiveness(kRules, 1'000'000) == LivenessStep::kNothing);
}

TEST_CASE("a silent peer is asked once and then given up") {
  LaneLink link = NewLink();
  link.Owed(1000);
  CHECK(link.CheckLiveness(kRules, 1009) == LivenessStep::kNothing);
  CHECK(link.CheckLiveness(kRules, 1010) == LivenessStep::kPing);
  link.pinged_ns = 1010;
  CHECK(link.CheckLiveness(kRules, 1030) == LivenessStep::kNothing);
  CHECK(link.CheckLiveness(kRules, 1050) == LivenessStep::kGiveUp);
}

TEST_CASE("a peer that answers pings may take its time") {
  LaneLink link = NewLink();
  link.Owed(1000);
  for (uint64_t now = 1010; now < 2000; now += 11) {
    REQUIRE(link.CheckLiveness(kRules, now) == LivenessStep::kPing);
    link.pinged_ns = now;
    link.Heard(7, now + 1);
  }
  CHECK(link.sender == 7);
}

TEST_CASE("silence counts from when something is owed") {
  LaneLink link = NewLink();
  link.Heard(7, 100);
  link.Owed(5000);
  CHECK(link.CheckLiveness(kRules, 5005) == LivenessStep::kNothing);
}

}  // namespace
}  // namespace latentd
