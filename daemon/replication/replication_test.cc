// Daemons in one process that copy chunks among themselves, under tables that the test makes.
#include "daemon/replication/replication.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "absl/time/clock.h"
#include "client/clock.h"
#include "daemon/replication/peer_thread.h"
#include "daemon/replication/test_cluster.h"

namespace latentd {
namespace {

using Catch::Matchers::Contains;

std::vector<TestChunk> PublishMany(Client& client, int count, uint64_t seed = 1) {
  std::vector<TestChunk> chunks;
  for (int i = 0; i < count; ++i) {
    chunks.emplace_back(client.layout(), seed + i, 20 + i);
    const absl::Status status = PublishAndSeal(client, chunks.back());
    INFO(status.ToString());
    REQUIRE(status.ok());
  }
  return chunks;
}

void CheckAll(Client& client, const std::vector<TestChunk>& chunks) {
  for (const TestChunk& chunk : chunks) {
    const absl::Status status = FetchAndCompare(client, chunk);
    INFO(ToString(chunk.id) << ": " << status.ToString());
    CHECK(status.ok());
  }
}

bool SealedOn(const TestCluster& cluster, const std::string& node, const TestChunk& chunk) {
  const auto there = cluster.ChunkOn(node, chunk.id);
  return there.has_value() && there->sealed() && there->checksum() == chunk.checksum;
}

TEST_CASE("what is acknowledged is on every holder") {
  TestCluster cluster(2);
  cluster.Add("node-a");
  cluster.Add("node-b");
  cluster.NextEpoch();
  const auto client = cluster.Connect("node-a");
  for (const TestChunk& chunk : PublishMany(*client, 10)) {
    CHECK(SealedOn(cluster, "node-a", chunk));
    CHECK(SealedOn(cluster, "node-b", chunk));
  }
}

TEST_CASE("the node that did not take what was acknowledged is named") {
  TestCluster cluster(2);
  for (const std::string acks : {"all", "primary"}) {
    CAPTURE(acks);
    const std::string first = "node-a-" + acks, second = "node-b-" + acks;
    cluster.Add(first, "acks: " + acks + "\n");
    cluster.Add(second, "acks: " + acks + "\n");
    cluster.Settle();
    const auto client = cluster.Connect(first);
    const TablePtr table = cluster.table();
    const auto index = *table->FindNode(second);
    uint64_t seed = 0;
    const auto draw = [&] { return TestChunk(client->layout(), ++seed, 20); };
    TestChunk chunk = draw();
    while (table->PrimaryOf(chunk.id.slot()) != *table->FindNode(first) ||
           !table->Holds(index, chunk.id.slot())) {
      chunk = draw();
    }
    cluster.Stop(second);
    const absl::Status status =
        client->Publish({.chunk = chunk.id, .layers = chunk.layers, .tokens = chunk.tokens},
                        chunk.records, absl::Seconds(1));
    INFO(status.ToString());
    CHECK(status.ok() == (acks == "primary"));
    if (acks == "primary") {
      WaitFor("it is named", [&] { return !cluster.MissedSaidBy(first).empty(); });
      CHECK(cluster.MissedSaidBy(first).front() ==
            MissedWrite{.node = second,
                        .generation = table->node(index).generation,
                        .slot = chunk.id.slot(),
                        .placed = table->PlacedOf(chunk.id.slot())});
    }
    // Who published it was told.
    if (acks == "all") CHECK(cluster.MissedSaidBy(first).empty());
    cluster.Stop(first);
    cluster.Forget(first);
    cluster.Forget(second);
  }
}

TEST_CASE("a node that joins copies what was there and answers for it when the others are gone") {
  TestCluster cluster(2);
  cluster.Add("node-a");
  cluster.NextEpoch();
  // It goes on to the end: with it, its open chunk would go.
  const auto first_client = cluster.Connect("node-a");
  auto* client = first_client.get();
  const std::vector<TestChunk> chunks = PublishMany(*client, 20);
  // An open one, of which the first layer is ahead of the others.
  const TestChunk open(client->layout(), 99, 50);
  REQUIRE(client->Publish({.chunk = open.id, .layers = 1, .tokens = 50}, open.Layer(0, 50)).ok());
  REQUIRE(client
              ->Publish({.chunk = open.id, .first_layer = 1, .layers = 1, .tokens = 10},
                        open.Layer(1, 10))
              .ok());

  cluster.Add("node-b");
  cluster.Settle();
  for (const TestChunk& chunk : chunks) CHECK(SealedOn(cluster, "node-b", chunk));
  REQUIRE(cluster.ChunkOn("node-b", open.id).has_value());
  CHECK(cluster.ChunkOn("node-b", open.id)->tokens() == 10);
  CHECK(cluster.StatusOf("node-b").replication().slots_held() == kSlotCount);
  CHECK(cluster.StatusOf("node-b").replication().chunks_copied() >= 20);

  cluster.Stop("node-a");
  CHECK(cluster.ChunkOn("node-b", open.id).has_value());
  cluster.Forget("node-a");
  cluster.Settle();
  CHECK(cluster.ChunkOn("node-b", open.id).has_value());
  const auto second_client = cluster.Connect("node-b");
  client = second_client.get();
  CHECK(cluster.ChunkOn("node-b", open.id).has_value());
  CheckAll(*client, chunks);
  // What had arrived of the open chunk is there: the rest completes it.
  const uint64_t tail = client->layout().record_bytes() * 40;
  REQUIRE(
      client
          ->Publish(
              {.chunk = open.id, .first_layer = 1, .layers = 1, .first_token = 10, .tokens = 40},
              open.Layer(1, 50).last(tail))
          .ok());
  const absl::Status sealed = client->Seal(open.id, 50, open.checksum);
  INFO(sealed.ToString());
  CHECK(sealed.ok());
}

TEST_CASE("nothing that is published while slots move is lost, and no request fails") {
  TestCluster cluster(2);
  cluster.Add("node-a");
  cluster.NextEpoch();
  std::vector<TestChunk> chunks;
  absl::Status failed;
  std::atomic<bool> stop = false;
  std::thread publisher([&, client = std::shared_ptr<Client>(cluster.Connect("node-a"))] {
    // Fewer than are evicted.
    for (uint64_t i = 0; i < 1000 && !stop && failed.ok(); ++i) {
      chunks.emplace_back(client->layout(), 1000 + i, 30);
      failed = PublishAndSeal(*client, chunks.back());
      if (failed.ok()) failed = FetchAndCompare(*client, chunks[i / 2]);
      absl::SleepFor(absl::Milliseconds(1));
    }
  });
  cluster.Add("node-b");
  cluster.Settle();
  cluster.Add("node-c");
  cluster.Settle();
  stop = true;
  publisher.join();
  INFO(failed.ToString());
  REQUIRE(failed.ok());
  REQUIRE(chunks.size() > 10);
  cluster.Stop("node-a");
  cluster.Forget("node-a");
  cluster.NextEpoch();
  const auto client = cluster.Connect("node-b");
  CheckAll(*client, chunks);
}

TEST_CASE("a source that dies while it is copied from leaves its copies to the others") {
  TestCluster cluster(2);
  cluster.Add("node-a");
  cluster.Add("node-b");
  cluster.NextEpoch();
  std::vector<TestChunk> chunks;
  {
    const auto client = cluster.Connect("node-a");
    chunks = PublishMany(*client, 40);
  }
  // Slowly enough to be caught at it.
  cluster.Add("node-c", "migration: { rate: 200KiB, parallel: 2 }\n");
  cluster.NextEpoch();
  WaitFor("some are copied",
          [&] { return cluster.StatusOf("node-c").replication().chunks_copied() >= 2; });
  cluster.Stop("node-a");
  cluster.Forget("node-a");
  cluster.Settle();
  const auto client = cluster.Connect("node-c");
  CheckAll(*client, chunks);
  for (const TestChunk& chunk : chunks) CHECK(SealedOn(cluster, "node-c", chunk));
}

TEST_CASE("a node that drains goes on answering until others hold all of its slots") {
  TestCluster cluster(1);
  cluster.Add("node-a");
  cluster.Add("node-b");
  cluster.NextEpoch();
  const auto client = cluster.Connect("node-a");
  const std::vector<TestChunk> chunks = PublishMany(*client, 20);
  REQUIRE(cluster.StatusOf("node-a").replication().slots_held() > 0);
  cluster.Drain("node-a");
  CheckAll(*client, chunks);
  cluster.NextEpoch();
  CheckAll(*client, chunks);
  CHECK(cluster.StatusOf("node-a").replication().slots_held() > 0);
  cluster.Settle();
  CHECK(cluster.StatusOf("node-a").replication().slots_held() == 0);
  CHECK(cluster.StatusOf("node-a").state() == v1::NODE_STATE_DRAINING);
  CheckAll(*client, chunks);
  cluster.Stop("node-a");
  cluster.Forget("node-a");
  cluster.NextEpoch();
  CheckAll(*cluster.Connect("node-b"), chunks);
}

TEST_CASE("a publish that a dead replica lacks is acknowledged once the table is without it") {
  TestCluster cluster(2);
  cluster.Add("node-a");
  cluster.Add("node-b");
  cluster.Add("node-c");
  cluster.NextEpoch();
  const auto client = cluster.Connect("node-a");
  PublishMany(*client, 5);
  cluster.Stop("node-c");
  std::atomic<bool> done = false;
  absl::Status status;
  std::vector<TestChunk> chunks;
  // Some of these have node-c for a replica, and none that the client has to find by itself.
  for (uint64_t seed = 500; chunks.size() < 4; ++seed) {
    TestChunk chunk(client->layout(), seed, 10);
    const auto holders = cluster.table()->HoldersOf(chunk.id.slot());
    if (cluster.table()->node(holders[0]).id != "node-c" &&
        cluster.table()->node(holders[1]).id == "node-c") {
      chunks.push_back(std::move(chunk));
    }
  }
  std::thread publisher([&] {
    for (const TestChunk& chunk : chunks) {
      if (status.ok()) status = PublishAndSeal(*client, chunk);
    }
    done = true;
  });
  absl::SleepFor(absl::Milliseconds(300));
  CHECK_FALSE(done);
  cluster.Forget("node-c");
  cluster.NextEpoch();
  WaitFor("the publish ends", [&] { return done.load(); });
  publisher.join();
  INFO(status.ToString());
  CHECK(status.ok());
  cluster.Settle();
  for (const TestChunk& chunk : chunks) {
    CHECK(SealedOn(cluster, "node-a", chunk));
    CHECK(SealedOn(cluster, "node-b", chunk));
  }
}

// The same tokens of all layers.
std::vector<std::byte> Part(const TestChunk& chunk, uint32_t first, uint32_t tokens) {
  std::vector<std::byte> part;
  for (uint32_t layer = 0; layer < chunk.layers; ++layer) {
    const auto whole = chunk.Layer(layer, first + tokens);
    const auto last = whole.last(whole.size() / (first + tokens) * tokens);
    part.insert(part.end(), last.begin(), last.end());
  }
  return part;
}

TEST_CASE("what a replica has of an open chunk, and its primary gave up, makes way") {
  TestCluster cluster(2);
  cluster.Add("node-a");
  cluster.Add("node-b");
  cluster.Settle();
  const auto client = cluster.Connect("node-a");
  const TablePtr table = cluster.table();
  uint64_t seed = 0;
  TestChunk chunk(client->layout(), seed, 20);
  while (table->node(table->PrimaryOf(chunk.id.slot())).id != "node-a") {
    chunk = TestChunk(client->layout(), ++seed, 20);
  }
  const auto range = [&](uint32_t first) {
    return ChunkRange{
        .chunk = chunk.id, .layers = chunk.layers, .first_token = first, .tokens = 10};
  };
  REQUIRE(client->Publish(range(0), Part(chunk, 0, 10)).ok());

  // The primary took this once, and its word that it was over never came.
  const std::vector<std::byte> other = Part(TestChunk(client->layout(), 1000, 20), 10, 10);
  const auto primary = PeerThread::Create({.self = "node-a", .layout = client->layout()}).value();
  primary->Start();
  std::atomic<bool> taken = false;
  primary->Post([&] {
    primary->client().SetTable(table);
    primary->client().Publish("node-b", range(10), other,
                              {.epoch = table->epoch(), .placed = table->PlacedOf(chunk.id.slot())},
                              SteadyNanos() + 5'000'000'000,
                              [&](const PeerAnswer& a) { taken = a.status.ok(); });
  });
  WaitFor("it is taken", [&] { return taken.load(); });
  primary->Stop();

  const absl::Status status = client->Publish(range(10), Part(chunk, 10, 10));
  INFO(status.ToString());
  REQUIRE(status.ok());
  cluster.Stop("node-a");
  cluster.Forget("node-a");
  cluster.NextEpoch();
  const auto second = cluster.Connect("node-b");
  const absl::Status there = FetchAndCompare(*second, chunk);
  INFO(there.ToString());
  CHECK(there.ok());
  CHECK(second->Seal(chunk.id, 20, chunk.checksum).ok());
}

TEST_CASE("a node that stops does not wait for a replica beyond the time it is given") {
  TestCluster cluster(2);
  for (const std::string id : {"node-a", "node-b"}) cluster.Add(id, "acks: primary\n");
  cluster.Settle();
  const auto client = cluster.Connect("node-a");
  cluster.Stop("node-b");
  // These wait for node-b for five seconds, whoever of the two was their primary.
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TestChunk chunk(client->layout(), seed, 20);
    if (cluster.table()->node(cluster.table()->PrimaryOf(chunk.id.slot())).id != "node-a") continue;
    REQUIRE(PublishAndSeal(*client, chunk).ok());
  }
  REQUIRE(cluster.StatusOf("node-a").replication().forwards_under_way() > 0);
  const absl::Time start = absl::Now();
  cluster.Stop("node-a");
  CHECK(absl::Now() - start < absl::Seconds(4));
}

TEST_CASE("a seal brings a node that lacks records all of them") {
  TestCluster cluster(2);
  cluster.Add("node-a");
  cluster.NextEpoch();
  const auto client = cluster.Connect("node-a");
  const TestChunk chunk(client->layout(), 7, 100);
  REQUIRE(client->Publish({.chunk = chunk.id, .layers = chunk.layers, .tokens = 100}, chunk.records)
              .ok());
  // It will not have copied anything by then.
  cluster.Add("node-b", "migration: { rate: 1, parallel: 1 }\n");
  const TestChunk big(client->layout(), 8, 100);
  REQUIRE(PublishAndSeal(*client, big).ok());
  cluster.NextEpoch();
  const absl::Status sealed = client->Seal(chunk.id, 100, chunk.checksum);
  INFO(sealed.ToString());
  REQUIRE(sealed.ok());
  CHECK(SealedOn(cluster, "node-b", chunk));
}

}  // namespace
}  // namespace latentd
