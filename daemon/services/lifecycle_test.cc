#include "daemon/services/lifecycle.h"

#include <catch2/catch.hpp>

#include "daemon/membership/static_membership.h"
#include "daemon/testing/fake_lane.h"

namespace latentd {
namespace {

// Static, but for what it says of itself.
class HandsOver final : public StaticMembership {
 public:
  HandsOver() : StaticMembership(StaticMembershipOptions{}) {}
  bool hands_over() const override { return true; }
};

TEST_CASE("a node whose slots are handed over goes on answering while it drains") {
  FakeLane lane{LaneOptions{}};
  HandsOver membership;
  REQUIRE(membership
              .Start({.id = "node-a", .control_address = "127.0.0.1:1", .capacity_bytes = 1},
                     [](const TablePtr&) {})
              .ok());
  bool serving = false;
  Lifecycle lifecycle({&lane}, &membership, [&](bool now) { serving = now; });
  lifecycle.Ready();
  REQUIRE(lifecycle.Drain().ok());
  CHECK(serving);
  CHECK(lane.admitting());
  CHECK(membership.ListNodes()[0].node.state == NodeState::kDraining);
  lifecycle.Stop();
  CHECK_FALSE(serving);
  CHECK_FALSE(lane.admitting());
}

struct World {
  World() {
    CHECK(membership
              .Start({.id = "node-a", .control_address = "127.0.0.1:1", .capacity_bytes = 1},
                     [](const TablePtr&) {})
              .ok());
  }

  FakeLane lane{LaneOptions{}};
  StaticMembership membership{{}};
  bool serving = false;
  Lifecycle lifecycle{{&lane}, &membership, [this](bool now) { serving = now; }};

  NodeState announced() const { return membership.ListNodes()[0].node.state; }
};

TEST_CASE("a node serves from Ready on") {
  World world;
  CHECK(world.lifecycle.state() == LifecycleState::kStarting);
  world.lifecycle.Ready();
  CHECK(world.lifecycle.state() == LifecycleState::kActive);
  CHECK(world.serving);
  CHECK(world.lane.admitting());
}

TEST_CASE("draining reaches lanes, membership and health, and resuming takes it back") {
  World world;
  world.lifecycle.Ready();
  REQUIRE(world.lifecycle.Drain().ok());
  CHECK_FALSE(world.serving);
  CHECK_FALSE(world.lane.admitting());
  CHECK(world.announced() == NodeState::kDraining);
  REQUIRE(world.lifecycle.Drain().ok());
  REQUIRE(world.lifecycle.Resume().ok());
  CHECK(world.serving);
  CHECK(world.lane.admitting());
  CHECK(world.announced() == NodeState::kActive);
  CHECK(world.lifecycle.Resume().ok());
}

TEST_CASE("a node that starts can neither drain nor resume") {
  World world;
  CHECK(world.lifecycle.Drain().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(world.lifecycle.Resume().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("nothing brings a stopping node back") {
  World world;
  world.lifecycle.Ready();
  world.lifecycle.Stop();
  CHECK_FALSE(world.serving);
  CHECK_FALSE(world.lane.admitting());
  const absl::Status status = world.lifecycle.Resume();
  CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(std::string(status.message()).find("stopping") != std::string::npos);
  CHECK(world.lifecycle.Drain().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("requests in flight are counted over all lanes") {
  FakeLane first{LaneOptions{}};
  FakeLane second{LaneOptions{}};
  StaticMembership membership{{}};
  first.mutable_stats().requests_in_flight.Set(3);
  second.mutable_stats().requests_in_flight.Set(4);
  const Lifecycle lifecycle({&first, &second}, &membership, [](bool) {});
  CHECK(lifecycle.RequestsInFlight() == 7);
}

}  // namespace
}  // namespace latentd
