// Cables are pulled, packets lost, and etcd's members killed under a cluster, while queries run and
// chunks are published. Every answer is compared with the right one, and every chunk whose seal was
// acknowledged is asked for at the end.
#include <catch2/catch.hpp>
#include <random>

#include "absl/time/clock.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/fault_world.h"
#include "tests/cluster/frontend.h"

namespace latentd::testing {
namespace {

TEST_CASE("a daemon whose cable is pulled is replaced, and comes back with it") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  cluster.network().Unplug(0);
  CHECK(world.Recovers(cluster.options().lease + absl::Seconds(20)));
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60), {1, 2}));
  cluster.network().Plug(0);
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60)));
  CHECK(world.Recovers(absl::Seconds(20)));
  CheckHarmless(world, world.load().Now());
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

// What the kernel has no room for waits in the client, lent by the caller.
TEST_CASE("queries with many rows end in time though a cable stays pulled") {
  if (Skipped()) return;
  EtcdCluster cluster({.nodes = 2, .replicas = 1, .lease = absl::Seconds(20)});
  Frontend frontend(cluster.ClientOf());
  std::mt19937_64 random(43);
  const ChunkData chunk =
      RandomChunk(frontend.IdOn(cluster.node(0).id(), 1), 130, 2, RecordFormat::kBf16, random);
  REQUIRE(frontend.Publish(chunk) == absl::OkStatus());
  const Question question = MakeQuestion(0, 64, 64, false, {{&chunk, 130}}, random);
  REQUIRE(frontend.AskAndCheck(question) == absl::OkStatus());
  cluster.network().Unplug(0);
  constexpr absl::Duration kTime = absl::Seconds(1);
  for (int i = 0; i < 3; ++i) {
    Partials answer;
    const absl::Time began = absl::Now();
    const absl::Status status = frontend.Ask(question, kTime, &answer);
    CAPTURE(i, status);
    CHECK(absl::Now() - began < kTime + absl::Milliseconds(500));
    CHECK_FALSE(status.ok());
  }
  cluster.network().Plug(0);
}

TEST_CASE("a daemon that etcd does not hear stops answering though requesters reach it") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  for (int member = 0; member < EtcdCluster::kEtcdMembers; ++member)
    cluster.network().Block(0, cluster.etcd_host(member));
  CHECK(world.Recovers(cluster.options().lease + absl::Seconds(20)));
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60), {1, 2}));
  for (int member = 0; member < EtcdCluster::kEtcdMembers; ++member)
    cluster.network().Unblock(0, cluster.etcd_host(member));
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60)));
  CheckHarmless(world, world.load().Now());
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

TEST_CASE("daemons that do not reach each other lose nothing that was acknowledged") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  cluster.network().Block(0, 1);
  absl::SleepFor(absl::Seconds(5));
  cluster.network().Unblock(0, 1);
  CHECK(world.Recovers(absl::Seconds(30)));
  CheckHarmless(world, world.load().Now());
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

TEST_CASE("packets are late and lost") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  if (const absl::Status disturbed =
          cluster.network().Disturb(0, {"delay", "20ms", "10ms", "loss", "2%"});
      !disturbed.ok()) {
    WARN("skipped: " << disturbed);
    return;
  }
  absl::SleepFor(absl::Seconds(8));
  cluster.network().Calm(0);
  CHECK(world.Recovers(absl::Seconds(20)));
  CheckHarmless(world, world.load().Now());
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

TEST_CASE("etcd's leader is killed: nobody notices") {
  if (Skipped()) return;
  FaultWorldOptions options;
  options.cluster.lease = absl::Seconds(5);
  FaultWorld world(options);
  EtcdCluster& cluster = world.cluster();
  const int leader = cluster.EtcdLeader();
  REQUIRE(leader >= 0);
  cluster.KillEtcd(leader);
  absl::SleepFor(2 * cluster.options().lease);
  CheckUnharmed(world, world.load().Now());
  cluster.StartEtcd(leader);
  CHECK(world.Recovers(absl::Seconds(20)));
  CheckUnharmed(world, world.load().Now());
  CheckPublisherUnharmed(world);
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

TEST_CASE("all of etcd is gone for half a minute: requesters are told, and nothing is lost") {
  if (Skipped()) return;
  FaultWorld world;
  EtcdCluster& cluster = world.cluster();
  for (int member = 0; member < EtcdCluster::kEtcdMembers; ++member) cluster.KillEtcd(member);
  absl::SleepFor(absl::Seconds(30));
  // Nobody can know whether others were given its slots: all are silent.
  const Tally meanwhile = world.load().Now();
  CheckHarmless(world, meanwhile);
  CHECK(meanwhile.errors.contains(absl::StatusCode::kUnavailable));
  for (int member = 0; member < EtcdCluster::kEtcdMembers; ++member) cluster.StartEtcd(member);
  CHECK(world.Recovers(absl::Seconds(60)));
  CHECK(cluster.WaitUntilSettled(absl::Seconds(60)));
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

}  // namespace
}  // namespace latentd::testing
