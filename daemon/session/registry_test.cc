#include "daemon/session/registry.h"

#include <catch2/catch.hpp>
#include <set>

#include "daemon/testing/fake_lane.h"

namespace latentd {
namespace {

// A registry over two lanes.
struct World {
  explicit World(SessionRules rules = {}) : registry(rules, {&first, &second}) {}

  FakeLane first{LaneOptions{.index = 0}};
  FakeLane second{LaneOptions{.index = 1}};
  SessionRegistry registry;
};

// Waits for what another thread does; a minute is "never".
template <typename Condition>
bool Eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

TEST_CASE("a session is known to every lane by the time its token is given away") {
  World world;
  const auto grant = world.registry.Open("client", "address");
  REQUIRE(grant.ok());
  CHECK(grant->tenant == "default");
  for (const FakeLane* lane : {&world.first, &world.second}) {
    REQUIRE(lane->sessions().size() == 1);
    CHECK(lane->sessions()[0].token == grant->token);
    CHECK(lane->sessions()[0].worker_address == "address");
  }
  CHECK(world.registry.counts().live == 1);
}

TEST_CASE("tokens differ and are never the empty one") {
  World world;
  std::set<SessionToken> tokens;
  for (int i = 0; i < 100; ++i) tokens.insert(world.registry.Open("client", "address")->token);
  CHECK(tokens.size() == 100);
  CHECK(tokens.count(SessionToken{}) == 0);
}

TEST_CASE("a lane that does not answer fails the session by its number and nothing stays behind") {
  World world;
  world.second.Hang(true);
  const auto grant = world.registry.Open("client", "address", absl::Milliseconds(20));
  CHECK(grant.status().code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(grant.status().message()).find("lane 1") != std::string::npos);
  CHECK(world.first.sessions().empty());
  CHECK(world.second.sessions().empty());
  CHECK(world.registry.counts().live == 0);
  CHECK(world.registry.counts().refused == 1);
}

TEST_CASE("closing takes a session from every lane, once") {
  World world;
  const auto grant = world.registry.Open("client", "address");
  REQUIRE(grant.ok());
  CHECK(world.registry.Renew(grant->token).ok());
  CHECK(world.registry.Close(grant->token).ok());
  CHECK(world.first.sessions().empty());
  CHECK(world.second.sessions().empty());
  CHECK(world.registry.Close(grant->token).code() == absl::StatusCode::kNotFound);
  CHECK(world.registry.Renew(grant->token).code() == absl::StatusCode::kNotFound);
  CHECK(world.registry.counts().closed == 1);
}

TEST_CASE("a session that is not renewed runs out by itself") {
  World world({.ttl = absl::Milliseconds(20)});
  REQUIRE(world.registry.Open("client", "address").ok());
  CHECK(Eventually([&] { return world.registry.counts().expired == 1; }));
  CHECK(world.first.sessions().empty());
  CHECK(world.second.removal_reasons() == std::vector<std::string>{"not renewed in time"});
}

TEST_CASE("a session that one lane loses ends on every lane") {
  World world;
  world.first.SetSessionLostCallback(
      [&](SessionToken token, const absl::Status& why) { world.registry.LostByLane(token, why); });
  const auto grant = world.registry.Open("client", "address");
  REQUIRE(grant.ok());
  world.first.LoseSession(grant->token);
  CHECK(world.second.sessions().empty());
  CHECK(world.second.removal_reasons() == std::vector<std::string>{"connection reset"});
  CHECK(world.registry.counts().lost == 1);
  CHECK(world.registry.Renew(grant->token).code() == absl::StatusCode::kNotFound);
}

TEST_CASE("beyond the limit a session is refused and no lane hears of it") {
  World world({.max_sessions = 1});
  REQUIRE(world.registry.Open("client", "address").ok());
  const auto refused = world.registry.Open("client", "address");
  CHECK(refused.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(world.first.sessions().size() == 1);
}

TEST_CASE("sessions go on while no new ones are opened") {
  World world;
  const auto grant = world.registry.Open("client", "address");
  REQUIRE(grant.ok());
  world.registry.StopOpening();
  CHECK(world.registry.Open("client", "address").status().code() == absl::StatusCode::kUnavailable);
  CHECK(world.registry.Renew(grant->token).ok());
  CHECK(world.first.sessions().size() == 1);
}

TEST_CASE("shutdown ends every session and refuses new ones") {
  World world;
  REQUIRE(world.registry.Open("client", "address").ok());
  world.registry.Shutdown();
  world.registry.Shutdown();
  CHECK(world.first.sessions().empty());
  CHECK(world.registry.Open("client", "address").status().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("sessions that open and close on many threads leave nothing behind") {
  World world({.max_sessions = 16});
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&world] {
      for (int round = 0; round < 200; ++round) {
        const auto grant = world.registry.Open("client", "address");
        if (grant.ok()) (void)world.registry.Close(grant->token);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(world.registry.counts().live == 0);
  CHECK(world.first.sessions().empty());
  CHECK(world.second.sessions().empty());
}

}  // namespace
}  // namespace latentd
