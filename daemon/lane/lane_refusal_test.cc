// Whatever is wrong with a request, the answer is a typed error that names it, and nothing changes.
#include <catch2/catch.hpp>

#include <cstring>
#include <random>
#include <vector>

#include "daemon/lane/lane.h"
#include "daemon/lane/lane_test_client.h"
#include "routing/lane_choice.h"

namespace latentd {
namespace {

using wire::Code;
using Query = TestClient::Query;

bool Mentions(const TestReply& reply, const std::string& text) {
  INFO(reply.text());
  return reply.text().find(text) != std::string::npos;
}

Query OverChunk(uint64_t chunk, uint32_t visible) {
  return {.chunks = {TestClient::Entry(chunk, visible)}};
}

TEST_CASE("a stale epoch is refused and the reply carries the newer one") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  for (const uint64_t epoch : {kTestEpoch - 1, kTestEpoch + 1}) {
    const TestReply reply =
        client.Attend(OverChunk(1, 10), [&](wire::RequestHeader& h) { h.epoch = epoch; });
    CHECK(reply.code() == Code::kWrongEpoch);
    CHECK(reply.reply.header.epoch == kTestEpoch);
  }
  world.lane->SetTable(TestTable(kTestEpoch + 1));
  world.Settle();
  CHECK(client.Attend(OverChunk(1, 10)).reply.header.epoch == kTestEpoch + 1);
}

TEST_CASE(
    "a request for another generation of the memory is refused, one that does not know it is "
    "served") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  const auto with = [&](uint64_t generation) {
    return client.Attend(OverChunk(1, 10),
                         [&](wire::RequestHeader& h) { h.generation = generation; });
  };
  CHECK(with(kTestGeneration + 1).code() == Code::kWrongGeneration);
  CHECK(with(0).code() == Code::kOk);
}

TEST_CASE("a shift that the layout's rope cannot make is refused") {
  const auto shifted = [](TestClient& client, int32_t shift) {
    client.Fill(1, 10);
    Query query = OverChunk(1, 10);
    query.groups = {{.tokens = 1, .chunks = 1, .position_shift = shift}};
    return client.Attend(query);
  };
  {
    LaneOptions options = TestOptions();
    options.layout.rope.yarn_factor = 40;
    options.layout.rope.original_context = 4096;
    LaneWorld world(options);
    TestClient client(world);
    CHECK(shifted(client, 163839).code() == Code::kOk);
    CHECK(shifted(client, -163839).code() == Code::kOk);
    for (const int32_t shift : {163840, -163840, INT32_MAX, INT32_MIN}) {
      const TestReply reply = shifted(client, shift);
      CHECK(reply.code() == Code::kOutOfRange);
      CHECK(Mentions(reply, "layout tiny: position shift " + std::to_string(shift) +
                                ": the model has 163840 positions"));
    }
  }
  {
    LaneOptions options = TestOptions();
    options.layout.rope_width = 0;
    LaneWorld world(options);
    TestClient client(world);
    CHECK(shifted(client, 0).code() == Code::kOk);
    const TestReply reply = shifted(client, 1);
    CHECK(reply.code() == Code::kFailedPrecondition);
    CHECK(Mentions(reply, "layout tiny: the layout has no rope values"));
  }
}

TEST_CASE("another layout is refused") {
  LaneWorld world;
  TestClient client(world);
  const auto reply =
      client.Publish(1, {0, 1, 0, 1}, 0, [](wire::RequestHeader& h) { h.layout_hash ^= 1; });
  CHECK(reply.code() == Code::kLayoutMismatch);
  CHECK(world.stats().malformed_messages.Get() == 0);
}

TEST_CASE("without a table nothing that needs one is served") {
  LaneOptions options = TestOptions();
  auto lane = ValueOrDie(Lane::Create(options, TestContext()));
  lane->Start();
  LaneWorld world;
  world.lane = std::move(lane);
  TestClient client(world);
  const TestReply reply = client.Publish(1, 1);
  CHECK(reply.code() == Code::kUnavailable);
  CHECK(reply.reply.header.retry_after_us > 0);
}

TEST_CASE("a chunk of another node's slot is refused, and the error says who holds it") {
  LaneWorld world;
  world.lane->SetTable(TestTable(kTestEpoch, {"node-a", "node-b"}));
  world.Settle();
  TestClient client(world);
  int here = 0, there = 0;
  for (uint64_t n = 1; n < 40; ++n) {
    const TestReply reply = client.Publish(n, 1);
    if (reply.status().ok()) {
      ++here;
      continue;
    }
    ++there;
    CHECK(reply.code() == Code::kNotHolder);
    CHECK(Mentions(reply, "is published to its primary, node-b"));
    CHECK(Mentions(client.Stat({n}), "is held by node-b"));
  }
  CHECK(here > 0);
  CHECK(there > 0);
}

TEST_CASE("a chunk of another lane's slot is refused, and the error says which") {
  LaneOptions options = TestOptions();
  options.all_lane_cache_bytes = {1000, 1000};
  options.index = 1;
  LaneWorld world(options);
  TestClient client(world);
  for (uint64_t n = 1; n < 20; ++n) {
    const TestReply reply = client.Publish(n, 1);
    const uint32_t lane = LaneOfSlot(TinyId(n).slot(), options.all_lane_cache_bytes);
    CHECK(reply.status().ok() == (lane == 1));
    if (lane == 0) CHECK(Mentions(reply, "belongs to lane 0"));
  }
}

TEST_CASE("chunks, layers and tokens that are not there are typed errors") {
  LaneWorld world;
  TestClient client(world);
  REQUIRE(client.Publish(1, {0, 1, 0, 10}).status().ok());
  CHECK(client.Attend(OverChunk(2, 1)).code() == Code::kNotFound);
  CHECK(client.Attend(OverChunk(1, 11)).code() == Code::kOutOfRange);
  Query query = OverChunk(1, 1);
  query.layer = 1;  // not published
  CHECK(client.Attend(query).code() == Code::kOutOfRange);
  query.layer = 2;  // not in the layout
  CHECK(client.Attend(query).code() == Code::kOutOfRange);
  CHECK(client.Fetch(2, {0, 1, 0, 1}).code() == Code::kNotFound);
  CHECK(client.Fetch(1, {0, 1, 0, 11}).code() == Code::kOutOfRange);
  CHECK(client.Seal(2, 1).code() == Code::kNotFound);
  const TestReply gap = client.Seal(1, 10);
  CHECK(gap.code() == Code::kFailedPrecondition);
  CHECK(Mentions(gap, "layer 1, token 0"));
}

TEST_CASE("other bytes for what is there are refused, the same again are ok") {
  LaneWorld world;
  TestClient client(world);
  const RecordRange range{0, 2, 0, 10};
  CHECK(client.Publish(1, range).status().ok());
  CHECK(client.Publish(1, range).status().ok());
  CHECK(client.Publish(1, range, /*seed=*/1).code() == Code::kAlreadyExists);
  CHECK(client.Seal(1, 10, 12345).code() == Code::kDataLoss);
  CHECK(client.Seal(1, 10).status().ok());
  CHECK(client.Publish(1, {0, 2, 10, 1}).code() == Code::kFailedPrecondition);
}

TEST_CASE("a row that is not finite is refused by its token and head") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  Query query = OverChunk(1, 10);
  query.heads = 3;
  query.tokens = 2;
  for (const uint16_t bad : {0x7f80, 0xff80, 0x7fc0}) {
    query.rows.clear();
    query.rows = client.Rows(query);
    query.rows[(1 * 3 + 2) * client.layout().geometry().row_width() + 5] = bad;
    const TestReply reply = client.Attend(query);
    CHECK(reply.code() == Code::kInvalidArgument);
    CHECK(Mentions(reply, "token 1, head 2"));
  }
  query.rows.clear();
  query.scale = INFINITY;
  CHECK(client.Attend(query).code() == Code::kInvalidArgument);
  CHECK(client.Until([&] { return world.Quiet(); }));
}

TEST_CASE("a record that is not finite is refused by its layer and token") {
  LaneWorld world;
  TestClient client(world);
  const RecordRange range{0, 2, 0, 4};
  auto records = TinyRecords(client.layout(), range);
  const uint16_t nan = 0x7fc0;
  std::memcpy(records.data() + 6 * client.layout().record_bytes(), &nan, 2);
  const TestReply reply = client.Take(client.SendPublish(1, range, records));
  CHECK(reply.code() == Code::kInvalidArgument);
  CHECK(Mentions(reply, "layer 1, token 2"));
  CHECK(world.stats().pages_free.Get() == world.stats().pages_total.Get());
}

TEST_CASE("zero heads and zero tokens are refused") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  Query query = OverChunk(1, 10);
  query.heads = 0;
  CHECK(client.Attend(query).code() == Code::kInvalidArgument);
  query = OverChunk(1, 10);
  query.tokens = 0;
  CHECK(client.Attend(query).code() == Code::kInvalidArgument);
  query = OverChunk(1, 10);
  query.heads = 129;
  CHECK_FALSE(client.Attend(query).status().ok());
}

TEST_CASE("a deadline that has passed is answered so and counted") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  const TestReply reply =
      client.Attend(OverChunk(1, 10), [](wire::RequestHeader& h) { h.deadline_us = 0; });
  CHECK(reply.code() == Code::kDeadlineExceeded);
  CHECK(world.stats().deadline_dropped.Get() == 1);
}

TEST_CASE("a draining lane takes no new work and goes on with the rest") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  REQUIRE(client.Publish(2, 10).status().ok());
  world.lane->SetAdmitting(false);
  world.Settle();
  for (const TestReply& reply : {client.Attend(OverChunk(1, 10)), client.Publish(3, 1)}) {
    CHECK(reply.code() == Code::kUnavailable);
    CHECK(reply.reply.header.retry_after_us > 0);
  }
  CHECK(client.Seal(2, 10).status().ok());
  CHECK(client.Fetch(1, {0, 1, 0, 1}).status().ok());
  CHECK(client.Stat({1}).status().ok());
  CHECK(client.Release({1}).status().ok());
  world.lane->SetAdmitting(true);
  world.Settle();
  CHECK(client.Attend(OverChunk(1, 10)).status().ok());
}

TEST_CASE("a request without a session is answered UNAUTHENTICATED") {
  LaneWorld world;
  SECTION("before HELLO") {
    TestClient client(world, /*hello=*/false);
    CHECK(client.Ping().code() == Code::kUnauthenticated);
  }
  SECTION("with a token that nobody gave") {
    TestClient client(world, /*hello=*/false);
    auto header = client.Header();
    header.token_lo ^= 1;
    MessageBytes bytes;
    BuildHello(header, &bytes);
    CHECK(client.Take(client.Send(header, bytes)).code() == Code::kUnauthenticated);
  }
  SECTION("with another session's token") {
    TestClient owner(world);
    owner.Fill(1, 10);
    TestClient client(world);
    const TestReply reply = client.Attend(
        OverChunk(1, 10), [&](wire::RequestHeader& h) { h.token_hi = owner.token().hi; });
    CHECK(reply.code() == Code::kUnauthenticated);
    CHECK(owner.Attend(OverChunk(1, 10)).status().ok());
  }
  CHECK(world.stats().unauthenticated.Get() == 1);
}

TEST_CASE("a session that was closed is not served any more") {
  LaneWorld world;
  TestClient client(world);
  world.lane->RemoveSession(client.token(), "closed by the test");
  world.Settle();
  auto header = client.Header();
  MessageBytes bytes;
  BuildPing(header, &bytes);
  client.Send(header, bytes);
  // Its connection was closed with it: the client hears of that, or is refused.
  CHECK(client.Until([&] { return !client.failure.ok() || client.Has(header.request_id); }));
  if (client.Has(header.request_id)) {
    CHECK(client.Take(header.request_id).code() == Code::kUnauthenticated);
  }
}

TEST_CASE("messages that cannot be read are answered where they name a request, and harm nobody") {
  LaneWorld world;
  TestClient good(world);
  good.Fill(1, 10);
  TestClient client(world);
  auto header = client.Header();
  MessageBytes valid;
  BuildPing(header, &valid);
  const auto raw = [&](size_t offset, std::vector<uint8_t> bytes) {
    std::vector<std::byte> message(valid.begin(), valid.end());
    for (size_t i = 0; i < bytes.size(); ++i) message[offset + i] = std::byte{bytes[i]};
    return message;
  };
  client.SendRaw(raw(offsetof(wire::RequestHeader, version), {9}));
  CHECK(client.Take(header.request_id).code() == Code::kUnimplemented);
  client.SendRaw(raw(offsetof(wire::RequestHeader, opcode), {77}));
  CHECK(client.Take(header.request_id).code() == Code::kUnimplemented);
  client.SendRaw(raw(offsetof(wire::RequestHeader, meta_bytes), {1}));
  CHECK(client.Take(header.request_id).code() == Code::kInvalidArgument);
  client.SendRaw(raw(offsetof(wire::RequestHeader, payload_bytes), {1}));
  CHECK(client.Take(header.request_id).code() == Code::kInvalidArgument);
  // Nobody to answer: a wrong magic, a fragment, nothing at all.
  client.SendRaw(raw(0, {0}));
  client.SendRaw({std::byte{1}});
  client.SendRaw({});
  CHECK(client.Until([&] { return world.stats().malformed_messages.Get() == 7; }));
  CHECK(client.Ping().status().ok());
  CHECK(good.Attend(OverChunk(1, 10)).status().ok());
}

TEST_CASE("random messages are survived") {
  LaneWorld world;
  TestClient good(world);
  good.Fill(1, 10);
  TestClient client(world);
  const uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 2000; ++i) {
    auto header = client.Header();
    header.opcode = static_cast<uint16_t>(random() % 12);
    MessageBytes bytes;
    BuildAttend(header, {.heads = 1, .tokens = 1}, std::vector<wire::GroupEntry>{{.tokens = 1}},
                std::vector<wire::ChunkEntry>{TestClient::Entry(1, 1)}, &bytes);
    std::vector<std::byte> message(bytes.begin(), bytes.end());
    message.resize(random() % (message.size() + 20));
    const int flips = static_cast<int>(random() % 4);
    for (int f = 0; f < flips && !message.empty(); ++f) {
      message[random() % message.size()] = static_cast<std::byte>(random());
    }
    client.SendRaw(std::move(message),
                   std::vector<std::byte>(random() % 3 == 0 ? random() % 200 : 0));
    client.Progress();
  }
  REQUIRE(good.Attend(OverChunk(1, 10)).status().ok());
  CHECK(good.Until([&] {
    client.Progress();
    return world.Quiet();
  }));
}

}  // namespace
}  // namespace latentd
