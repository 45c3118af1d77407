// Daemons die, freeze, restart and stop while queries run. Every answer is compared with the right
// one: what a requester sees is that answer or a typed error within its time.
#include <algorithm>
#include <catch2/catch.hpp>

#include "absl/time/clock.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/frontend.h"
#include "tests/cluster/load.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kTokens = 130;
constexpr absl::Duration kTimeout = absl::Seconds(2);
// A question may end this much after its time: two cores, several daemons.
constexpr absl::Duration kSlack = absl::Milliseconds(500);

// Three daemons with a chunk each, questions to all of them and questions to the last two alone.
class World {
 public:
  explicit World(ClusterOptions options = {.nodes = 3}) : cluster(std::move(options)) {
    Frontend publisher(cluster.node(1).endpoint());
    std::mt19937_64 random(17);
    for (int i = 0; i < cluster.size(); ++i) {
      chunks.push_back(RandomChunk(publisher.IdOn(cluster.node(i).id(), 1000), kTokens, 2,
                                   RecordFormat::kBf16, random));
    }
    for (const ChunkData& chunk : chunks) REQUIRE(publisher.Publish(chunk) == absl::OkStatus());
    const ExpectedPart a{&chunks[0], kTokens};
    const ExpectedPart b{&chunks[1], kTokens};
    const ExpectedPart c{&chunks[2], 77};
    for (uint32_t layer = 0; layer < 2; ++layer) {
      to_all.push_back(MakeQuestion(layer, 3, 16, true, {a, b, c}, random));
      to_all.push_back(MakeQuestion(layer, 1, 5, false, {a}, random));
      to_survivors.push_back(MakeQuestion(layer, 3, 16, true, {b, c}, random));
      to_survivors.push_back(MakeQuestion(layer, 1, 5, false, {c}, random));
    }
  }

  Node& victim() { return cluster.node(0); }
  Cluster cluster;
  std::vector<ChunkData> chunks;
  std::vector<Question> to_all;
  std::vector<Question> to_survivors;
};

// A load that needs the victim (and was introduced by it) and one that does not, running and right.
struct Loads {
  explicit Loads(World& world)
      : all(world.to_all, 2, kTimeout, AskThroughClient(world.victim().endpoint())),
        survivors(world.to_survivors, 2, kTimeout,
                  AskThroughClient(world.cluster.node(1).endpoint())) {
    REQUIRE(all.WaitForAnswers(20, Scaled(absl::Seconds(20))));
    REQUIRE(survivors.WaitForAnswers(20, Scaled(absl::Seconds(20))));
    CHECK(all.Now().failed() == 0);
    CHECK(survivors.Now().failed() == 0);
    all.Reset();
    survivors.Reset();
  }

  VerifyingLoad all;
  VerifyingLoad survivors;
};

void CheckOnly(const Tally& tally, const std::vector<absl::StatusCode>& allowed) {
  CAPTURE(tally);
  CHECK(tally.wrong == 0);
  CHECK(tally.longest <= kTimeout + Scaled(kSlack));
  for (const auto& [code, count] : tally.errors) {
    CAPTURE(code);
    CHECK(std::find(allowed.begin(), allowed.end(), code) != allowed.end());
  }
}

constexpr absl::StatusCode kUnavailable = absl::StatusCode::kUnavailable;
constexpr absl::StatusCode kDeadlineExceeded = absl::StatusCode::kDeadlineExceeded;
constexpr absl::StatusCode kNotFound = absl::StatusCode::kNotFound;

TEST_CASE("a daemon is killed under load: typed errors in time, and the others go on") {
  World world;
  Loads loads(world);
  world.victim().Kill();
  CHECK(Eventually(Scaled(absl::Seconds(10)), [&] { return loads.all.Now().failed() >= 10; }));
  CHECK(loads.survivors.WaitForAnswers(50, Scaled(absl::Seconds(20))));
  CheckOnly(loads.all.Stop(), {kUnavailable, kDeadlineExceeded});
  CheckOnly(loads.survivors.Stop(), {});
}

TEST_CASE("a daemon is frozen under load and thawed: typed errors in time, then right answers") {
  World world;
  Loads loads(world);
  world.victim().Freeze();
  CHECK(Eventually(Scaled(absl::Seconds(20)), [&] { return loads.all.Now().failed() >= 4; }));
  CHECK(loads.survivors.WaitForAnswers(50, Scaled(absl::Seconds(20))));
  CheckOnly(loads.survivors.Now(), {});
  world.victim().Thaw();
  CHECK(loads.all.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  CheckOnly(loads.all.Stop(), {kUnavailable, kDeadlineExceeded});
  CheckOnly(loads.survivors.Stop(), {});
  // Nothing of the interrupted work is left.
  Accounting now;
  CHECK(Eventually(Scaled(absl::Seconds(10)), [&] {
    now = world.victim().Account();
    return now.requests_in_flight == 0 && now.bytes_in_flight == 0;
  }));
  CHECK(now.chunks_sealed == 1);
}

TEST_CASE("a daemon that restarts at its address is never taken for the one it was") {
  World world;
  Loads loads(world);
  const uint64_t old_generation = world.victim().Status().generation();
  world.victim().Kill();
  world.victim().Start();
  world.victim().WaitUntilReady();
  CHECK(world.victim().Status().generation() != old_generation);
  CHECK(world.victim().Account().chunks_sealed == 0);

  loads.all.Reset();
  CHECK(Eventually(Scaled(absl::Seconds(20)),
                   [&] { return loads.all.Now().errors[kNotFound] >= 4; }));
  CHECK(loads.all.Now().right == 0);

  // Publishing again heals it, for the clients that were there all along.
  Frontend publisher(world.cluster.node(1).endpoint());
  REQUIRE(publisher.Publish(world.chunks[0]) == absl::OkStatus());
  CHECK(loads.all.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  CheckOnly(loads.all.Stop(), {kUnavailable, kDeadlineExceeded, kNotFound});
  CheckOnly(loads.survivors.Stop(), {});
}

TEST_CASE("what a client held of a daemon that restarts is gone, and what it goes on with is new") {
  World world;
  Frontend frontend(world.cluster.node(1).endpoint());
  std::mt19937_64 random(19);
  const std::string& victim = world.victim().id();
  const ChunkData half =
      RandomChunk(frontend.IdOn(victim, 2000), kTokens, 2, RecordFormat::kBf16, random);
  constexpr uint32_t kHalf = 64;
  REQUIRE(frontend.PublishPart(half, 0, kHalf) == absl::OkStatus());
  REQUIRE(frontend.client().Pin({&world.chunks[0].id, 1}, absl::Minutes(1)) == absl::OkStatus());
  // Nothing of the client is under way while the daemon dies: it has to find out by itself.
  world.victim().Kill();
  world.victim().Start();
  world.victim().WaitUntilReady();

  const std::vector<ChunkId> ids = {world.chunks[0].id, half.id};
  absl::StatusOr<std::vector<ChunkStat>> stat;
  REQUIRE(Eventually(Scaled(absl::Seconds(20)), [&] {
    stat = frontend.client().Stat(ids, kTimeout);
    return stat.ok();
  }));
  CHECK_FALSE(stat->at(0).present);
  CHECK_FALSE(stat->at(1).present);
  // The second half of a chunk is not taken for a whole one.
  REQUIRE(frontend.PublishPart(half, kHalf, kTokens - kHalf) == absl::OkStatus());
  const absl::Status sealed = frontend.Seal(half);
  CHECK(sealed.code() == absl::StatusCode::kFailedPrecondition);
  const Question question = MakeQuestion(0, 1, 4, false, {{&half, kTokens}}, random);
  const absl::Status asked = frontend.AskAndCheck(question);
  INFO(asked.ToString());
  CHECK(absl::IsOutOfRange(asked));
  CHECK(world.victim().Account().chunks_pinned == 0);

  REQUIRE(frontend.PublishPart(half, 0, kHalf) == absl::OkStatus());
  REQUIRE(frontend.Seal(half) == absl::OkStatus());
  CHECK(frontend.AskAndCheck(question) == absl::OkStatus());
}

TEST_CASE("a daemon that restarts again and again is right or refused each time") {
  World world;
  VerifyingLoad load(world.to_all, 2, kTimeout, AskThroughClient(world.cluster.node(1).endpoint()));
  REQUIRE(load.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  Frontend publisher(world.cluster.node(1).endpoint());
  std::vector<uint64_t> generations = {world.victim().Status().generation()};
  for (int i = 0; i < 4; ++i) {
    world.victim().Kill();
    world.victim().Start();
    world.victim().WaitUntilReady();
    generations.push_back(world.victim().Status().generation());
    REQUIRE(Eventually(Scaled(absl::Seconds(20)),
                       [&] { return publisher.Publish(world.chunks[0], kTimeout).ok(); }));
    CHECK(load.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  }
  std::sort(generations.begin(), generations.end());
  CHECK(std::adjacent_find(generations.begin(), generations.end()) == generations.end());
  CheckOnly(load.Stop(), {kUnavailable, kDeadlineExceeded, kNotFound});
}

TEST_CASE("SIGTERM under load drains and exits with 0 inside its limit") {
  World world({.nodes = 3, .drain = "timeout: 5s"});
  Loads loads(world);
  const absl::Time told = absl::Now();
  world.victim().Terminate();
  const auto end = world.victim().process().WaitForEnd(Scaled(absl::Seconds(10)));
  const absl::Duration took = absl::Now() - told;
  REQUIRE(end.has_value());
  CHECK(end->exit_code == 0);
  CHECK(took < Scaled(absl::Seconds(7)));
  CHECK(loads.survivors.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  CheckOnly(loads.all.Stop(), {kUnavailable, kDeadlineExceeded});
  CheckOnly(loads.survivors.Stop(), {});
}

}  // namespace
}  // namespace latentd::testing
