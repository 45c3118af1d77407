// Tables come and go under a running lane: requests of older ones, slots that leave and come back;
// and a node that has lost its lease.
#include <catch2/catch.hpp>

#include <memory>
#include <vector>

#include "daemon/lane/lane.h"
#include "daemon/lane/lane_test_client.h"
#include "daemon/lane/replica_test_util.h"
#include "daemon/membership/serving_fence.h"

namespace latentd {
namespace {

using wire::Code;
using Query = TestClient::Query;

LaneOptions GraceOptions(absl::Duration grace) {
  LaneOptions options = TestOptions();
  options.slot_grace = grace;
  // Housekeeping every few milliseconds.
  options.ping_after = absl::Milliseconds(40);
  options.dead_after = absl::Seconds(60);
  return options;
}

Code AttendAt(TestClient& client, uint64_t chunk, uint64_t epoch) {
  return client
      .Attend({.chunks = {TestClient::Entry(chunk, 10)}},
              [&](wire::RequestHeader& header) { header.epoch = epoch; })
      .code();
}

void Give(LaneWorld& world, uint64_t epoch, const std::map<uint32_t, Place>& places) {
  world.lane->SetTable(PlacedTable(epoch, places));
  world.Settle();
}

TEST_CASE("a requester of an older table is served where the slot has not moved since") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  client.Fill(2, 10);
  Give(world, 9, {{1, {.placed = 8}}, {2, {.placed = 4}}});
  CHECK(AttendAt(client, 1, 9) == Code::kOk);
  CHECK(AttendAt(client, 1, 8) == Code::kOk);
  CHECK(AttendAt(client, 1, 7) == Code::kWrongEpoch);
  CHECK(AttendAt(client, 2, 7) == Code::kOk);
  CHECK(AttendAt(client, 2, 4) == Code::kOk);
  CHECK(AttendAt(client, 2, 3) == Code::kWrongEpoch);
  CHECK(AttendAt(client, 2, 10) == Code::kWrongEpoch);
  const auto publish = [&](uint64_t epoch) {
    return client.Publish(2, {0, 2, 0, 10}, 0, [&](wire::RequestHeader& h) { h.epoch = epoch; })
        .code();
  };
  CHECK(publish(4) == Code::kOk);
  CHECK(publish(3) == Code::kWrongEpoch);
}

TEST_CASE("one chunk whose slot has moved refuses a request that is right about the others") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  client.Fill(2, 10);
  Give(world, 9, {{1, {.placed = 8}}, {2, {.placed = 4}}});
  const Query both = {.chunks = {TestClient::Entry(2, 10), TestClient::Entry(1, 10)}};
  const auto reply = client.Attend(both, [](wire::RequestHeader& h) { h.epoch = 6; });
  CHECK(reply.code() == Code::kWrongEpoch);
  CHECK(reply.text().find("slot 1 has moved in epoch 8") != std::string::npos);
  CHECK(reply.reply.header.epoch == 9);
}

TEST_CASE("a requester that does not know that a slot has moved is answered where it still is") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  Give(world, 8, {});
  Give(world, 9, {{1, {.holders = {kB, kA}, .placed = 9}}});
  CHECK(AttendAt(client, 1, 8) == Code::kOk);
  CHECK(AttendAt(client, 1, 7) == Code::kWrongEpoch);
  CHECK(client.Stat({1}).code() == Code::kWrongEpoch);  // of epoch 7
}

TEST_CASE("a requester of a table from before its slot began anew, or joined here, is refused") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  client.Fill(2, 10);
  Give(world, 8, {});
  Give(world, 9,
       {{1, {.placed = 9, .generation = 2}}, {2, {.holders = {kB}, .joining = {kA}, .placed = 9}}});
  CHECK(AttendAt(client, 1, 8) == Code::kWrongEpoch);
  CHECK(AttendAt(client, 2, 8) == Code::kWrongEpoch);
  Give(world, 10, {{1, {.placed = 10, .generation = 2}}, {2, {.placed = 10}}});
  CHECK(AttendAt(client, 1, 8) == Code::kWrongEpoch);
  CHECK(AttendAt(client, 1, 9) == Code::kOk);
}

TEST_CASE("the chunks of a slot that has gone are dropped after the grace, others stay") {
  LaneWorld world(GraceOptions(absl::Milliseconds(50)));
  TestClient client(world);
  client.Fill(1, 10);
  client.Fill(2, 10);
  REQUIRE(client.Publish(3, 10).status().ok());
  Give(world, 8, {{1, {.holders = {kB}}}, {3, {.holders = {kB}}}});
  CHECK(AttendAt(client, 1, 8) == Code::kNotHolder);
  CHECK(WaitFor([&] { return world.stats().released_chunks.Get() == 2; },
                [&] { client.Progress(); }));
  CHECK(world.stats().chunks_sealed.Get() == 1);
  CHECK(world.stats().chunks_open.Get() == 0);
  CHECK(AttendAt(client, 2, 8) == Code::kOk);
  // The space is free without any session.
  CHECK(world.stats().pages_free.Get() == world.stats().pages_total.Get() - 1);
}

TEST_CASE("a slot that comes back within the grace finds its sealed chunks here") {
  LaneWorld world(GraceOptions(absl::Hours(1)));
  TestClient client(world);
  client.Fill(1, 10);
  REQUIRE(client.Publish(2, 10).status().ok());
  const Place elsewhere = {.holders = {kB}, .placed = 8};
  Give(world, 8, {{1, elsewhere}, {2, elsewhere}});
  const Place joining = {.holders = {kB}, .joining = {kA}, .placed = 9};
  Give(world, 9, {{1, joining}, {2, joining}});
  const Place back = {.placed = 10};
  Give(world, 10, {{1, back}, {2, back}});
  CHECK(AttendAt(client, 1, 10) == Code::kOk);
  // What was open has missed what became of it elsewhere.
  CHECK(AttendAt(client, 2, 10) == Code::kNotFound);
}

TEST_CASE("who joins a slot keeps nothing open, whatever it was in the table it had before") {
  const Place primary = {}, holder = {.holders = {kB, kA}},
              joining = {.holders = {kB}, .joining = {kA}};
  for (const Place& before : {primary, holder, joining}) {
    LaneWorld world(GraceOptions(absl::Hours(1)));
    TestClient client(world);
    Give(world, 8, {{1, before}, {2, before}});
    const bool publishes = before.holders.front() == kA;
    const TestClient::Change as =
        publishes ? TestClient::Change([](auto& h) { h.epoch = 8; }) : TestClient::AsReplica(3);
    for (const uint64_t chunk : {1, 2}) {
      REQUIRE(client.Publish(chunk, {0, 2, 0, 10}, 0, as).status().ok());
    }
    REQUIRE(client.Seal(2, 10, TinyChecksum(client.layout(), 10), as).status().ok());
    // The tables in between, by which it had no part in the slot, never came.
    const Place again = {.holders = {kB}, .joining = {kA}, .placed = 12};
    Give(world, 12, {{1, again}, {2, again}});
    CHECK(world.stats().chunks_open.Get() == 0);
    const Place claimed = {.holders = {kB, kA}, .placed = 13};
    Give(world, 13, {{1, claimed}, {2, claimed}});
    CHECK(AttendAt(client, 1, 13) == Code::kNotFound);
    CHECK(AttendAt(client, 2, 13) == Code::kOk);
  }
}

TEST_CASE("a node that goes on joining a slot keeps what it has of it") {
  LaneWorld world;
  TestClient client(world);
  const Place joining = {.holders = {kB}, .joining = {kA}};
  Give(world, 8, {{1, joining}});
  REQUIRE(client.Publish(1, {0, 2, 0, 10}, 0, TestClient::AsReplica(3)).status().ok());
  Give(world, 9, {{1, joining}});
  Give(world, 10, {{1, {.holders = {kB, kA}, .placed = 10}}});
  CHECK(AttendAt(client, 1, 10) == Code::kOk);
}

TEST_CASE("a slot that begins anew keeps nothing that was not sealed") {
  LaneWorld world(GraceOptions(absl::Hours(1)));
  TestClient client(world);
  const Place joining = {.holders = {kB}, .joining = {kA}, .placed = 7, .generation = 1};
  Give(world, 8, {{1, joining}, {2, joining}});
  for (const uint64_t chunk : {1, 2}) {
    REQUIRE(client.Publish(chunk, {0, 2, 0, 10}, 0, TestClient::AsReplica(7)).status().ok());
  }
  REQUIRE(client.Seal(2, 10, TinyChecksum(client.layout(), 10), TestClient::AsReplica(7))
              .status()
              .ok());
  const Place anew = {.placed = 9, .generation = 2};
  Give(world, 9, {{1, anew}, {2, anew}});
  CHECK(AttendAt(client, 1, 9) == Code::kNotFound);
  CHECK(AttendAt(client, 2, 9) == Code::kOk);
}

TEST_CASE("a holder whose slot is said to begin anew keeps what it has") {
  LaneWorld world;
  TestClient client(world);
  Give(world, 8, {});
  REQUIRE(client.Publish(1, {0, 2, 0, 10}, 0, [](auto& h) { h.epoch = 8; }).status().ok());
  Give(world, 9, {{1, {.placed = 9, .generation = 2}}});
  CHECK(AttendAt(client, 1, 9) == Code::kOk);
}

TEST_CASE("leased chunks of a slot that has gone wait for the end of their leases") {
  LaneWorld world(GraceOptions(absl::ZeroDuration()));
  TestClient client(world);
  client.Fill(1, 10);
  client.Fill(2, 10);
  REQUIRE(client.Pin({1}, 60'000).status().ok());
  const Place elsewhere = {.holders = {kB}};
  Give(world, 8, {{1, elsewhere}, {2, elsewhere}});
  CHECK(WaitFor([&] { return world.stats().released_chunks.Get() == 1; }));
  CHECK(world.stats().chunks_pinned.Get() == 1);
  CHECK(client.Release({1}).status().ok());
  CHECK(WaitFor([&] { return world.stats().released_chunks.Get() == 2; }));
}

TEST_CASE("open chunks of a slot that has another primary no longer end with their publishers") {
  LaneWorld world;
  TestClient keeper(world);
  {
    TestClient client(world);
    REQUIRE(client.Publish(1, 10).status().ok());
    REQUIRE(client.Publish(2, 10).status().ok());
    Give(world, 8, {{1, {.holders = {kB, kA}}}});
    world.lane->RemoveSession(client.token(), "test");
    world.Settle();
  }
  CHECK(AttendAt(keeper, 1, 8) == Code::kOk);
  CHECK(AttendAt(keeper, 2, 8) == Code::kNotFound);
}

TEST_CASE("records that arrive when their slot has another primary already are refused") {
  LaneOptions options = TestOptions();
  options.layout = {.model = "wide", .layers = 1, .latent_width = 512, .rope_width = 64};
  options.cache_bytes = 64 * options.layout.page_bytes();
  LaneWorld world(options);
  TestClient client(world);
  const RecordRange range{0, 1, 0, 2000};
  const uint64_t id = client.SendPublish(1, range, TinyRecords(client.layout(), range));
  // The header is there, the records wait for the client to go on.
  const auto publish = static_cast<size_t>(wire::Opcode::kPublish);
  REQUIRE(WaitFor([&] { return world.stats().requests[publish].Get() == 1; }));
  REQUIRE_FALSE(client.Has(id));
  Give(world, 8, {{1, {.holders = {kB, kA}, .placed = 8}}});
  CHECK(client.Take(id).code() == Code::kWrongEpoch);
  CHECK(world.stats().chunks_open.Get() == 0);
}

TEST_CASE("a node that has lost its lease answers nothing about chunks") {
  ServingFence fence;
  LaneOptions options = TestOptions();
  options.fence = &fence;
  LaneWorld world(options);
  TestClient client(world);
  client.Fill(1, 10);
  const Query query = {.chunks = {TestClient::Entry(1, 10)}};
  CHECK(client.Attend(query).status().ok());
  fence.ServeUntil(ServingFence::Now() - absl::Milliseconds(1));
  const std::vector<TestReply> refused = {client.Attend(query), client.Fetch(1, {0, 2, 0, 10}),
                                          client.Stat({1}),     client.Publish(1, 10),
                                          client.Seal(1, 10),   client.Pin({1}, 100),
                                          client.Release({1}),  client.List(1, 0)};
  for (const TestReply& reply : refused) {
    CHECK(reply.code() == Code::kUnavailable);
    CHECK(reply.text().find("node node-a has lost its lease") != std::string::npos);
    CHECK(reply.reply.header.retry_after_us > 0);
  }
  CHECK(client.Ping().status().ok());
  CHECK(client.Echo(std::vector<std::byte>(10), 10).status().ok());
  fence.ServeUntil(absl::UnixEpoch(), FenceReason::kIdTaken);
  CHECK(client.Attend(query).text().find("another daemon has this node id") != std::string::npos);
  fence.ServeUntil(ServingFence::Now() + absl::Hours(1));
  CHECK(client.Attend(query).status().ok());
}

TEST_CASE("what was admitted before the lease was lost is not answered after it") {
  ServingFence fence;
  HoldingSink sink;
  LaneOptions options = TestOptions();
  options.fence = &fence;
  options.replica_sink = &sink;
  LaneWorld world(options);
  const SinkEnd end(sink);
  world.lane->SetTable(PlacedTable(kTestEpoch, {{1, {.holders = {kA, kB}}}}));
  TestClient client(world);
  const uint64_t id =
      client.SendPublish(1, {0, 2, 0, 10}, TinyRecords(client.layout(), {0, 2, 0, 10}));
  auto held = sink.Take([&] { client.Progress(); });
  fence.ServeUntil(ServingFence::Now() - absl::Milliseconds(1));
  held.done(absl::OkStatus());
  CHECK(client.Take(id).code() == Code::kUnavailable);
}

}  // namespace
}  // namespace latentd
