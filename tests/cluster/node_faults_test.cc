// Daemons of a cluster with etcd are killed, frozen, restarted and drained while queries run and
// chunks are published. Every answer is compared with the right one, and every chunk whose seal was
// acknowledged is asked for at the end.
#include <catch2/catch.hpp>
#include <random>
#include <utility>

#include "absl/time/clock.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/fault_world.h"
#include "tests/cluster/frontend.h"
#include "tests/cluster/process.h"
#include "transport/errors.h"

namespace latentd::testing {
namespace {

uint64_t GenerationOf(Node& node) { return node.Status().generation(); }

TEST_CASE("one daemon after another is killed: the copies answer and are made anew") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  cluster.node(0).Kill();
  CHECK(world.Recovers(cluster.options().lease + absl::Seconds(15)));
  CheckHarmless(world, world.load().Now());
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60), {1, 2}));

  world.load().Reset();
  CHECK(world.load().WaitForAnswers(60, absl::Seconds(20)));
  CheckUnharmed(world, world.load().Now());

  cluster.node(1).Kill();
  CHECK(world.Recovers(cluster.options().lease + absl::Seconds(15)));
  CheckHarmless(world, world.load().Now());
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

TEST_CASE("a daemon that is frozen for longer than its lease is replaced and comes back") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  const uint64_t generation = GenerationOf(cluster.node(1));
  cluster.node(1).Freeze();
  CHECK(world.Recovers(cluster.options().lease + absl::Seconds(20)));
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60), {0, 2}));
  cluster.node(1).Thaw();
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60)));
  CHECK(GenerationOf(cluster.node(1)) == generation);
  CHECK(world.Recovers(absl::Seconds(20)));
  CheckHarmless(world, world.load().Now());
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

TEST_CASE("a daemon that is frozen for less than its lease stays, and its requests go elsewhere") {
  if (Skipped()) return;
  FaultWorldOptions options;
  options.cluster.lease = absl::Seconds(8);
  FaultWorld world(options);
  EtcdCluster& cluster = world.cluster();
  const auto before = cluster.Table();
  cluster.node(2).Freeze();
  absl::SleepFor(absl::Seconds(2));
  cluster.node(2).Thaw();
  CHECK(world.Recovers(absl::Seconds(20)));
  CheckHarmless(world, world.load().Now());
  CHECK(cluster.Table()->epoch() == before->epoch());
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

TEST_CASE("a daemon that restarts empty at its address is not credited with what it had") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  const uint64_t generation = GenerationOf(cluster.node(0));
  cluster.node(0).Restart();  // by SIGKILL, and at once
  CHECK(GenerationOf(cluster.node(0)) != generation);
  CHECK(world.Recovers(absl::Seconds(30)));
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60)));
  CheckHarmless(world, world.load().Now());
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

TEST_CASE("a rolling restart loses no chunk, and no query and no publish fails") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  for (int i = 0; i < cluster.size(); ++i) {
    const CommandResult drained = RunCommand(
        {Runfile("tools/latentctl"), "--endpoint", cluster.node(i).endpoint(), "drain", "--wait"},
        absl::Seconds(60));
    CAPTURE(i, drained.out, drained.err);
    CHECK(drained.end.exit_code == 0);
    cluster.node(i).Terminate();
    const auto end = cluster.node(i).process().WaitForEnd(absl::Seconds(20));
    REQUIRE(end.has_value());
    CHECK(end->exit_code == 0);
    cluster.node(i).Start();
    cluster.node(i).WaitUntilReady(absl::Seconds(20));
    CHECK(cluster.WaitUntilSettled(absl::Seconds(60)));
  }
  CheckUnharmed(world, world.load().Now());
  CheckPublisherUnharmed(world);
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

TEST_CASE("a node that joins takes its share, and no query and no publish fails") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  cluster.node(2).Terminate();
  REQUIRE(cluster.node(2).process().WaitForEnd(absl::Seconds(20)).has_value());
  CHECK(world.Recovers(absl::Seconds(20)));
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60), {0, 1}));
  world.load().Reset();
  cluster.node(2).Start();
  cluster.node(2).WaitUntilReady(absl::Seconds(20));
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60)));
  CheckUnharmed(world, world.load().Now());
  CheckPublisherUnharmed(world);
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

// Whether it is answered, and right.
absl::Status AskFor(Frontend& frontend, const ChunkData& chunk) {
  std::mt19937_64 random(chunk.id.lo);
  return frontend.AskAndCheck(MakeQuestion(0, 1, 4, false, {{&chunk, chunk.tokens}}, random),
                              absl::Seconds(10));
}

// What a full store may say to who publishes and pins: no room, none at the copy's in the time there
// is, or evicted in between.
bool IsOfAFullStore(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsNotFound(status);
}

TEST_CASE("a full store refuses what is new and keeps what is pinned or asked for") {
  if (Skipped()) return;
  FaultWorldOptions options;
  options.cluster.cache = "8MiB";  // 56 pages: a chunk of the load has three
  options.chunks = 4;
  FaultWorld world(options);
  Frontend frontend(world.cluster().ClientOf());
  std::mt19937_64 random(37);
  const auto publish = [&] {
    ChunkData chunk =
        RandomChunk({.hi = random(), .lo = random()}, 130, 2, RecordFormat::kBf16, random);
    return std::pair(frontend.Publish(chunk), std::move(chunk));
  };
  const auto pin = [&](const ChunkData& chunk) {
    return frontend.client().Pin({&chunk.id, 1}, absl::Minutes(5), absl::Seconds(10));
  };

  // Nobody asks for either of them; what is least recently used goes.
  const auto [published, pinned] = publish();
  REQUIRE(published == absl::OkStatus());
  REQUIRE(pin(pinned) == absl::OkStatus());
  const auto [published_too, unpinned] = publish();
  REQUIRE(published_too == absl::OkStatus());
  const auto publishes = [&](uint64_t count) {
    return Eventually(absl::Seconds(60), [&, end = world.publisher().acknowledged() + count] {
      frontend.client().Progress();  // it is alive
      return world.publisher().acknowledged() >= end;
    });
  };
  CHECK(publishes(200));
  CHECK(absl::IsNotFound(AskFor(frontend, unpinned)));
  CHECK(AskFor(frontend, pinned) == absl::OkStatus());

  // Once all is pinned, what is new is refused, and nothing else goes.
  for (const ChunkData& chunk : world.chunks()) REQUIRE(pin(chunk) == absl::OkStatus());
  std::vector<ChunkData> kept;
  absl::Status refused;
  for (int i = 0; i < 100 && !absl::IsResourceExhausted(refused); ++i) {
    auto [status, chunk] = publish();
    if (status.ok()) status = pin(chunk);
    if (status.ok()) kept.push_back(std::move(chunk));
    refused = status;
    CHECK((status.ok() || IsOfAFullStore(status)));
  }
  CAPTURE(refused, kept.size());
  CHECK(absl::IsResourceExhausted(refused));
  CHECK(RetryAfter(refused).has_value());
  CHECK(AskFor(frontend, pinned) == absl::OkStatus());
  for (const ChunkData& chunk : kept) CHECK(AskFor(frontend, chunk) == absl::OkStatus());
  const Tally tally = world.load().Now();
  CAPTURE(tally);
  CHECK(tally.wrong == 0);
  CHECK(tally.failed() == 0);

  // Leases that end make room again.
  for (const ChunkData& chunk : kept) {
    CHECK(frontend.client().Release({&chunk.id, 1}, absl::Seconds(10)) == absl::OkStatus());
  }
  CHECK(publishes(20));
}

}  // namespace
}  // namespace latentd::testing
