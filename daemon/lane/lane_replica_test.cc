// A slot's primary passes on what it takes; its other nodes take what the primary passes on.
#include <catch2/catch.hpp>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "daemon/lane/lane.h"
#include "daemon/lane/lane_test_client.h"
#include "daemon/lane/replica_test_util.h"
#include "daemon/lane/steady_time.h"

namespace latentd {
namespace {

using wire::Code;
using Kind = ReplicaWrite::Kind;
using Query = TestClient::Query;

// Chunk n lies in slot n. Slot 1: primary; 2: holder; 3: joining; 4: nothing; 5: alone.
std::shared_ptr<const RoutingTable> RolesTable(uint64_t epoch = kTestEpoch) {
  return PlacedTable(epoch, {{1, {.holders = {kA, kB}, .joining = {kC}}},
                             {2, {.holders = {kB, kA}}},
                             {3, {.holders = {kB}, .joining = {kA}}},
                             {4, {.holders = {kB}}}});
}

LaneOptions WideOptions() {
  LaneOptions options = TestOptions();
  options.layout = {.model = "wide", .layers = 1, .latent_width = 512, .rope_width = 64};
  options.cache_bytes = 64 * options.layout.page_bytes();
  return options;
}

struct ReplicaWorld {
  explicit ReplicaWorld(LaneOptions options = TestOptions()) {
    options.replica_sink = &sink;
    lane = std::make_unique<LaneWorld>(std::move(options));
    lane->lane->SetTable(RolesTable());
    lane->Settle();
  }
  const LaneStats& stats() const { return lane->stats(); }

  HoldingSink sink;
  std::unique_ptr<LaneWorld> lane;
  const SinkEnd end{sink};
};

std::vector<std::byte> Copy(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

bool Answered(TestClient& client, uint64_t id) {
  for (int i = 0; i < 200; ++i) client.Progress();
  return client.Has(id);
}

TEST_CASE("what is published to a primary is answered once the slot's other nodes have it") {
  ReplicaWorld world;
  TestClient client(*world.lane);
  const RecordRange range{0, 2, 0, 10};
  const auto records = TinyRecords(client.layout(), range);
  const uint64_t id = client.SendPublish(1, range, records);
  auto held = world.sink.Take([&] { client.Progress(); });
  CHECK(held.write.kind == Kind::kPublish);
  CHECK(held.write.chunk == TinyId(1));
  CHECK(held.write.range.tokens == 10);
  CHECK(Copy(held.write.records) == records);
  CHECK(held.write.epoch == Epoch{kTestEpoch});
  CHECK(held.write.placed == Epoch{3});
  CHECK(held.write.nodes == std::vector<NodeId>{"node-b", "node-c"});
  CHECK_FALSE(Answered(client, id));
  // The store has it already: readers are not kept waiting.
  CHECK(client.Attend({.chunks = {TestClient::Entry(1, 10)}}).status().ok());
  held.done(absl::OkStatus());
  CHECK(client.Take(id).status().ok());
  CHECK(WaitFor([&] { return world.lane->Quiet(); }, [&] { client.Progress(); }));
}

TEST_CASE("a seal is passed on like records") {
  ReplicaWorld world;
  TestClient client(*world.lane);
  const uint64_t published =
      client.SendPublish(1, {0, 2, 0, 10}, TinyRecords(client.layout(), {0, 2, 0, 10}));
  world.sink.Take([&] { client.Progress(); }).done(absl::OkStatus());
  REQUIRE(client.Take(published).status().ok());
  ReplicaWrite seal;
  std::thread other([&] {
    auto held = world.sink.Take();
    seal = held.write;
    held.done(absl::OkStatus());
  });
  CHECK(client.Seal(1, 10).status().ok());
  other.join();
  CHECK(seal.kind == Kind::kSeal);
  CHECK(seal.tokens == 10);
  CHECK(seal.checksum == TinyChecksum(client.layout(), 10));
}

TEST_CASE("records that come by rendezvous stay where they are until the sink is done") {
  ReplicaWorld world(WideOptions());
  TestClient client(*world.lane);
  const RecordRange range{0, 1, 0, 1000};  // more than a megabyte
  const auto records = TinyRecords(client.layout(), range);
  const uint64_t id = client.SendPublish(1, range, records);
  auto held = world.sink.Take([&] { client.Progress(); });
  CHECK(client.Ping().status().ok());
  CHECK(Copy(held.write.records) == records);
  held.done(absl::OkStatus());
  CHECK(client.Take(id).status().ok());
}

TEST_CASE("what another node does not take is the answer, and may be tried again") {
  ReplicaWorld world;
  TestClient client(*world.lane);
  const auto records = TinyRecords(client.layout(), {0, 2, 0, 10});
  const uint64_t id = client.SendPublish(1, {0, 2, 0, 10}, records);
  world.sink.Take([&] { client.Progress(); }).done(absl::UnavailableError("node-b is gone"));
  const TestReply reply = client.Take(id);
  CHECK(reply.code() == Code::kUnavailable);
  CHECK(reply.text() == "node-b is gone");
  const uint64_t again = client.SendPublish(1, {0, 2, 0, 10}, records);
  auto held = world.sink.Take([&] { client.Progress(); });
  CHECK(Copy(held.write.records) == records);
  held.done(absl::OkStatus());
  CHECK(client.Take(again).status().ok());
  CHECK(world.stats().forwards_failed.Get() == 1);
}

TEST_CASE("where the primary's copy is enough it answers at once, and keeps what it passes on") {
  LaneOptions options = WideOptions();
  options.acks_all = false;
  for (const uint32_t tokens : {2u, 1000u}) {
    ReplicaWorld world(options);
    TestClient client(*world.lane);
    const RecordRange range{0, 1, 0, tokens};
    const auto records = TinyRecords(client.layout(), range);
    CHECK(client.Take(client.SendPublish(1, range, records)).status().ok());
    CHECK(WaitFor([&] { return world.lane->Quiet(); }, [&] { client.Progress(); }));
    CHECK(client.Echo(std::vector<std::byte>(100), 100).status().ok());
    auto held = world.sink.Take();
    CHECK(Copy(held.write.records) == records);
    held.done(absl::UnavailableError("too late to tell"));
    CHECK(WaitFor([&] { return world.stats().forwards_failed.Get() == 1; }));
  }
}

TEST_CASE("what is kept for slow nodes is bounded: beyond it requests wait") {
  LaneOptions options = WideOptions();
  options.acks_all = false;
  options.limits.inflight_bytes = 3 * 64 * 1152;
  ReplicaWorld world(options);
  TestClient client(*world.lane);
  const auto publish = [&](uint32_t first) {
    const RecordRange range{0, 1, first, 64};
    return client.SendPublish(1, range, TinyRecords(client.layout(), range));
  };
  CHECK(client.Take(publish(0)).status().ok());
  const uint64_t second = publish(64);
  auto first = world.sink.Take();
  auto held = world.sink.Take([&] { client.Progress(); });
  CHECK_FALSE(Answered(client, second));
  held.done(absl::OkStatus());
  CHECK(client.Take(second).status().ok());
  first.done(absl::OkStatus());
}

TEST_CASE("a slot without other nodes, and a refused publish, are nobody else's business") {
  ReplicaWorld world;
  TestClient client(*world.lane);
  CHECK(client.Publish(5, 10).status().ok());
  CHECK(client.Seal(1, 10).code() == Code::kNotFound);
  CHECK(world.sink.held() == 0);
}

TEST_CASE("a client that leaves while its records are passed on leaves nothing behind") {
  ReplicaWorld world(WideOptions());
  auto client = std::make_unique<TestClient>(*world.lane);
  const RecordRange range{0, 1, 0, 1000};
  const auto records = TinyRecords(client->layout(), range);
  client->SendPublish(1, range, records);
  auto held = world.sink.Take([&] { client->Progress(); });
  SECTION("its process ends") { client->Die(); }
  SECTION("its session ends") { world.lane->lane->RemoveSession(client->token(), "test"); }
  auto dropped = world.sink.Take();
  CHECK(dropped.write.kind == Kind::kDrop);
  CHECK(dropped.write.chunk == TinyId(1));
  CHECK(world.stats().requests_in_flight.Get() == 1);
  CHECK(Copy(held.write.records) == records);
  held.done(absl::OkStatus());
  dropped.done(absl::OkStatus());
  CHECK(WaitFor([&] { return world.lane->Quiet(); }));
  CHECK(WaitFor([&] { return world.stats().pages_free.Get() == world.stats().pages_total.Get(); }));
}

TEST_CASE("a lane that stops waits for the sink, and answers what was passed on") {
  ReplicaWorld world(WideOptions());
  TestClient client(*world.lane);
  const RecordRange range{0, 1, 0, 1000};
  const auto records = TinyRecords(client.layout(), range);
  const uint64_t id = client.SendPublish(1, range, records);
  auto held = world.sink.Take([&] { client.Progress(); });
  std::atomic<bool> stopped = false;
  std::thread stop([&] {
    (void)world.lane->lane->Stop(absl::Now());
    stopped = true;
  });
  CHECK(client.Take(id).code() == Code::kUnavailable);
  CHECK(WaitFor([&] { return world.sink.end_by() <= SteadyNow(); }));
  CHECK_FALSE(stopped);
  CHECK(Copy(held.write.records) == records);
  held.done(absl::OkStatus());
  stop.join();
}

TEST_CASE("records that were on their way when the lane was told to stop are passed on too") {
  ReplicaWorld world(WideOptions());
  TestClient client(*world.lane);
  const RecordRange range{0, 1, 0, 2000};
  const uint64_t id = client.SendPublish(1, range, TinyRecords(client.layout(), range));
  const auto publish = static_cast<size_t>(wire::Opcode::kPublish);
  REQUIRE(WaitFor([&] { return world.stats().requests[publish].Get() == 1; }));
  std::thread stop([&] { (void)world.lane->lane->Stop(absl::Now() + kTestPatience); });
  // It refuses what is new by then.
  CHECK(client.Until([&] {
    return client.Take(client.SendEcho({}, 0)).code() == Code::kUnavailable ||
           world.sink.held() > 0;
  }));
  auto held = world.sink.Take([&] { client.Progress(); });
  CHECK(held.write.range.tokens == 2000);
  held.done(absl::OkStatus());
  CHECK(client.Take(id).status().ok());
  stop.join();
}

TEST_CASE("a node takes from a slot's primary what it holds or joins, as it is placed") {
  ReplicaWorld world;
  TestClient peer(*world.lane);
  for (const uint64_t chunk : {2, 3}) {
    const auto publish = [&](uint64_t placed) {
      return peer.Publish(chunk, {0, 2, 0, 10}, 0, TestClient::AsReplica(placed));
    };
    CHECK(publish(2).code() == Code::kWrongEpoch);
    CHECK(publish(4).code() == Code::kWrongEpoch);
    CHECK(publish(3).status().ok());
    CHECK(peer.Seal(chunk, 10, TinyChecksum(peer.layout(), 10)).code() == Code::kNotHolder);
    CHECK(peer.Seal(chunk, 10, TinyChecksum(peer.layout(), 10), TestClient::AsReplica(3))
              .status()
              .ok());
  }
  for (const uint64_t chunk : {1, 4}) {
    CHECK(peer.Publish(chunk, {0, 2, 0, 10}, 0, TestClient::AsReplica(3)).code() ==
          Code::kWrongEpoch);
  }
  CHECK(world.sink.held() == 0);
}

TEST_CASE("the epoch of what a primary passes on does not matter, only where the slot is") {
  ReplicaWorld world;
  TestClient peer(*world.lane);
  for (const uint64_t epoch : {kTestEpoch - 2, kTestEpoch + 2}) {
    CHECK(peer.Publish(2, {0, 2, 0, 10}, 0,
                       [&](wire::RequestHeader& header) {
                         TestClient::AsReplica(3)(header);
                         header.epoch = epoch;
                       })
              .status()
              .ok());
  }
}

TEST_CASE("holders answer, those that join do not, and only primaries take what is published") {
  ReplicaWorld world;
  TestClient client(*world.lane);
  for (const uint64_t chunk : {2, 3}) {
    REQUIRE(client.Publish(chunk, {0, 2, 0, 10}, 0, TestClient::AsReplica(3)).status().ok());
    const TestReply publish = client.Publish(chunk, 10);
    CHECK(publish.code() == Code::kNotHolder);
    CHECK(publish.text().find("its primary, node-b") != std::string::npos);
  }
  const auto all = [&](uint64_t chunk) {
    return std::vector<Code>{client.Attend({.chunks = {TestClient::Entry(chunk, 10)}}).code(),
                             client.Fetch(chunk, {0, 2, 0, 10}).code(),
                             client.Stat({chunk}).code()};
  };
  CHECK(all(2) == std::vector<Code>(3, Code::kOk));
  CHECK(all(3) == std::vector<Code>(3, Code::kNotHolder));
  CHECK(client.Pin({3}, 1000).code() == Code::kNotHolder);
}

TEST_CASE("what came from a primary belongs to the node, not to the session that brought it") {
  LaneOptions options = TestOptions();
  options.limits.open_bytes_per_session = options.layout.page_bytes();
  ReplicaWorld world(options);
  {
    TestClient peer(*world.lane);
    REQUIRE(peer.Publish(2, {0, 2, 0, 5 * 64}, 0, TestClient::AsReplica(3)).status().ok());
    REQUIRE(peer.Publish(3, {0, 2, 0, 10}, 0, TestClient::AsReplica(3)).status().ok());
    world.lane->lane->RemoveSession(peer.token(), "test");
    world.lane->Settle();
  }
  TestClient peer(*world.lane);
  CHECK(world.stats().chunks_open.Get() == 2);
  CHECK(peer.Drop(2, 2).code() == Code::kWrongEpoch);
  CHECK(peer.Drop(2, 3).status().ok());
  CHECK(peer.Drop(2, 3).status().ok());
  CHECK(peer.Attend({.chunks = {TestClient::Entry(2, 10)}}).code() == Code::kNotFound);
  CHECK(peer.Drop(1, 3).code() == Code::kWrongEpoch);
}

TEST_CASE("a sealed chunk is not dropped by those who think that it is open") {
  ReplicaWorld world;
  TestClient peer(*world.lane);
  REQUIRE(peer.Publish(2, {0, 2, 0, 10}, 0, TestClient::AsReplica(3)).status().ok());
  REQUIRE(
      peer.Seal(2, 10, TinyChecksum(peer.layout(), 10), TestClient::AsReplica(3)).status().ok());
  CHECK(peer.Drop(2, 3).status().ok());
  CHECK(peer.Attend({.chunks = {TestClient::Entry(2, 10)}}).status().ok());
}

TEST_CASE("a holder lists a slot to those who know where it is") {
  ReplicaWorld world;
  TestClient peer(*world.lane);
  REQUIRE(peer.Publish(2, {0, 2, 0, 10}, 0, TestClient::AsReplica(3)).status().ok());
  REQUIRE(peer.Publish(2, {0, 1, 10, 5}, 0, TestClient::AsReplica(3)).status().ok());
  REQUIRE(peer.Publish(3, {0, 2, 0, 10}, 0, TestClient::AsReplica(3)).status().ok());
  const TestReply reply = peer.List(2, 3);
  REQUIRE(reply.status().ok());
  const auto& list = std::get<ListReply>(reply.reply.body);
  REQUIRE(list.entries.size() == 1);
  CHECK(list.entries[0].chunk_hi == TinyId(2).hi);
  CHECK(list.entries[0].sealed == 0);
  CHECK(list.layer_tokens[0] == std::vector<uint32_t>{15, 10});
  CHECK_FALSE(list.more);
  CHECK(peer.List(2, 2).code() == Code::kWrongEpoch);
  CHECK(peer.List(3, 3).code() == Code::kWrongEpoch);
  CHECK(peer.List(4, 3).code() == Code::kWrongEpoch);
  CHECK(std::get<ListReply>(peer.List(1, 3).reply.body).entries.empty());
}

TEST_CASE("a long list comes in parts") {
  LaneOptions options = TestOptions(400);
  ReplicaWorld world(options);
  TestClient peer(*world.lane);
  constexpr int kChunks = 300;
  std::atomic<int> published = 0;
  const auto records = TinyRecords(peer.layout(), {0, 2, 0, 1});
  for (int n = 0; n < kChunks; ++n) {
    world.lane->lane->PublishLocal(
        {.chunk = {.hi = TinyId(2).hi, .lo = static_cast<uint64_t>(n + 1)},
         .range = {0, 2, 0, 1},
         .records = records,
         .placed = Epoch{3}},
        [&](const absl::Status& s) { published += s.ok(); });
  }
  REQUIRE(WaitFor([&] { return published == kChunks; }));
  std::vector<uint64_t> seen;
  for (ChunkId after{}; true;) {
    const TestReply reply = peer.List(2, 3, after, 1000);
    REQUIRE(reply.status().ok());
    const auto& list = std::get<ListReply>(reply.reply.body);
    for (const auto& entry : list.entries) seen.push_back(entry.chunk_lo);
    if (!list.more) break;
    after = {.hi = list.entries.back().chunk_hi, .lo = list.entries.back().chunk_lo};
  }
  REQUIRE(seen.size() == kChunks);
  for (int n = 0; n < kChunks; ++n) CHECK(seen[n] == static_cast<uint64_t>(n + 1));
}

}  // namespace
}  // namespace latentd
