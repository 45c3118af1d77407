// What a lane answers when everything is as it should be.
#include "daemon/lane/lane.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <ctime>
#include <vector>

#include "daemon/lane/lane_test_client.h"
#include "daemon/lane/steady_time.h"
#include "kernels/reference/reference.h"
#include "kernels/rotate.h"
#include "routing/layout_rope.h"

namespace latentd {
namespace {

// The records of TinyRecords in pages of the test's own, for the reference.
struct Records {
  Layout layout;
  std::vector<std::byte> arena;
  std::vector<uint32_t> page_ids;

  Records(const Layout& layout, uint32_t tokens, uint32_t seed = 0) : layout(layout) {
    const uint32_t pages = (tokens + kPageTokens - 1) / kPageTokens;
    arena.resize(pages * layout.page_bytes());
    for (uint32_t p = 0; p < pages; ++p) page_ids.push_back(p);
    for (uint32_t l = 0; l < layout.layers; ++l) {
      for (uint32_t t = 0; t < tokens; ++t) {
        const auto record = TinyRecords(layout, {l, 1, t, 1}, seed);
        std::memcpy(arena.data() + t / kPageTokens * layout.page_bytes() +
                        l * layout.layer_bytes() + t % kPageTokens * layout.record_bytes(),
                    record.data(), record.size());
      }
    }
  }
  CacheView view() const { return {arena.data(), layout.page_bytes(), layout.layer_bytes()}; }
};

ReferencePartials Reference(const TestClient& client, const TestClient::Query& query,
                            const Records& records) {
  std::vector<Segment> segments;
  for (const auto& chunk : query.chunks) {
    segments.push_back({records.page_ids.data(), chunk.visible_tokens, chunk.tokens_after});
  }
  const std::vector<Group> groups = {
      {0, query.tokens, 0, static_cast<uint32_t>(segments.size()), query.causal}};
  const auto rows = client.Rows(query);
  const Problem problem = {.layer = query.layer,
                           .tokens = query.tokens,
                           .heads = query.heads,
                           .scale = query.scale,
                           .groups = groups,
                           .segments = segments,
                           .rows = reinterpret_cast<const Bf16*>(rows.data())};
  return ReferenceAttendFp64(client.layout().geometry(), client.layout().record_format,
                             records.view(), problem);
}

// A GPU's matrix kernels round probabilities to bf16.
double OutTolerance() { return TestOptions().device == "cpu" ? 1e-4 : 4e-3; }

// Reads an fp32 reply and compares it.
void CheckEqual(const TestReply& reply, const ReferencePartials& expected) {
  REQUIRE(reply.status().ToString() == "OK");
  REQUIRE(reply.payload.size() == (expected.out.size() + expected.lse.size()) * sizeof(float));
  std::vector<float> values(reply.payload.size() / sizeof(float));
  std::memcpy(values.data(), reply.payload.data(), reply.payload.size());
  double worst = 0;
  for (size_t i = 0; i < expected.out.size(); ++i) {
    worst = std::max(worst, std::abs(values[i] - expected.out[i]));
  }
  CHECK(worst < OutTolerance());
  for (size_t i = 0; i < expected.lse.size(); ++i) {
    const float lse = values[expected.out.size() + i];
    if (std::isinf(expected.lse[i])) {
      CHECK(lse == -INFINITY);
    } else {
      CHECK(std::abs(lse - expected.lse[i]) < 1e-4);
    }
  }
}

TEST_CASE("what is published and sealed is attended as the reference would") {
  const std::string transport = GENERATE("tcp", "shm");
  LaneWorld world(TestOptions(), transport);
  TestClient client(world);
  client.Fill(1, 150);
  const Records records(client.layout(), 150);
  for (const uint32_t layer : {0u, 1u}) {
    for (const uint32_t visible : {0u, 1u, 64u, 150u}) {
      const TestClient::Query query = {
          .layer = layer, .heads = 3, .tokens = 2, .chunks = {TestClient::Entry(1, visible)}};
      CheckEqual(client.Attend(query), Reference(client, query, records));
    }
  }
  const TestClient::Query causal = {
      .heads = 2, .tokens = 4, .chunks = {TestClient::Entry(1, 100, 1)}, .causal = true};
  CheckEqual(client.Attend(causal), Reference(client, causal, records));
  CHECK(world.stats().attend_rows.Get() > 0);
  CHECK(client.Until([&] { return world.Quiet(); }));
  CHECK(world.stats().chunks_pinned.Get() == 0);
}

TEST_CASE("partials come back as bf16 unless fp32 is asked for, with times and load") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  TestClient::Query query = {.heads = 2, .tokens = 1, .chunks = {TestClient::Entry(1, 10)}};
  query.flags = 0;
  const TestReply reply = client.Attend(query);
  REQUIRE(reply.status().ok());
  CHECK(reply.payload.size() == 2 * (8 * 2 + 4));
  CHECK(reply.reply.header.epoch == kTestEpoch);
  CHECK(reply.reply.header.batch_rows == 2);
  CHECK(reply.reply.header.queue_ns > 0);
  CHECK(reply.reply.header.queue_ns < 60e9);
}

TEST_CASE("a query over several chunks gets one partial a row") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 100);
  client.Fill(2, 100);
  const Records records(client.layout(), 100);
  const TestClient::Query query = {.chunks = {TestClient::Entry(1, 100), TestClient::Entry(2, 30)}};
  CheckEqual(client.Attend(query), Reference(client, query, records));
}

// The query's rows with those of each group turned back by its shift.
std::vector<uint16_t> TurnedBack(const TestClient& client, const TestClient::Query& query) {
  const Geometry geometry = client.layout().geometry();
  const Rope rope = ValueOrDie(Rope::Make(RopeOf(client.layout())));
  auto rows = client.Rows(query);
  for (const wire::GroupEntry& group : query.groups) {
    Bf16* turned = reinterpret_cast<Bf16*>(rows.data()) +
                   uint64_t{group.first_token} * query.heads * geometry.row_width();
    RotateRows(geometry, ValueOrDie(rope.RotationBy(-int64_t{group.position_shift})), turned,
               uint64_t{group.tokens} * query.heads, turned);
  }
  return rows;
}

LaneOptions WideRopeOptions(bool interleaved) {
  LaneOptions options = TestOptions();
  options.layout.rope_width = 24;
  options.layout.rope = {
      .theta = 1000, .yarn_factor = 8, .original_context = 4096, .interleaved = interleaved};
  options.cache_bytes = 64 * options.layout.page_bytes();
  return options;
}

TEST_CASE(
    "a chunk used elsewhere than where it was made is attended by rows that are turned back") {
  LaneWorld world(WideRopeOptions(GENERATE(true, false)));
  TestClient client(world), other(world);
  client.Fill(1, 150);
  const Records records(client.layout(), 150);
  // By rows that came with the message, and by rows that came on their own.
  const uint32_t tokens = GENERATE(3u, 600u);
  TestClient::Query query = {.heads = 2, .tokens = tokens, .chunks = {TestClient::Entry(1, 150)}};
  query.groups = {{.tokens = 1, .chunks = 1, .position_shift = 777},
                  {.first_token = 1, .tokens = 1, .chunks = 1},
                  {.first_token = 2, .tokens = tokens - 2, .chunks = 1, .position_shift = -32000}};
  const TestClient::Query plain = {.heads = 2, .tokens = 1, .chunks = query.chunks};
  const uint64_t beside = other.SendAttend(plain);
  const TestReply reply = client.Attend(query);

  TestClient::Query turned = query;
  turned.rows = TurnedBack(client, query);
  CheckEqual(reply, Reference(client, turned, records));
  CheckEqual(other.Take(beside), Reference(other, plain, records));
}

TEST_CASE("rows turned back see what records turned forward show, within bf16's rounding") {
  LaneWorld world(WideRopeOptions(true));
  TestClient client(world);
  client.Fill(1, 100);
  Records records(client.layout(), 100);
  const Layout& layout = client.layout();
  const Rotation forward =
      ValueOrDie(ValueOrDie(Rope::Make(RopeOf(layout))).RotationBy(int64_t{5000}));
  RotateChunk(layout.geometry(), layout.record_format, forward,
              {records.arena.data(), layout.page_bytes(), layout.layer_bytes()}, records.page_ids,
              layout.layers, 100);
  TestClient::Query query = {.heads = 2, .tokens = 2, .chunks = {TestClient::Entry(1, 100)}};
  query.groups = {{.tokens = 2, .chunks = 1, .position_shift = 5000}};
  const TestReply reply = client.Attend(query);
  REQUIRE(reply.status().ok());
  const ReferencePartials expected = Reference(client, query, records);
  std::vector<float> values(reply.payload.size() / sizeof(float));
  std::memcpy(values.data(), reply.payload.data(), reply.payload.size());
  for (size_t i = 0; i < expected.out.size(); ++i) {
    CHECK(std::abs(values[i] - expected.out[i]) < 2e-2);
  }
  for (size_t i = 0; i < expected.lse.size(); ++i) {
    CHECK(std::abs(values[expected.out.size() + i] - expected.lse[i]) < 2e-2);
  }
}

TEST_CASE("an open chunk is attended up to what has arrived") {
  LaneWorld world;
  TestClient client(world);
  REQUIRE(client.Publish(1, 20).status().ok());
  const Records records(client.layout(), 20);
  TestClient::Query query = {.chunks = {TestClient::Entry(1, 20)}};
  CheckEqual(client.Attend(query), Reference(client, query, records));
  query.chunks = {TestClient::Entry(1, 21)};
  CHECK(client.Attend(query).code() == wire::Code::kOutOfRange);
}

TEST_CASE("large payloads come by rendezvous, both ways") {
  LaneOptions options = TestOptions(1);
  options.layout = {.model = "wide", .layers = 1, .latent_width = 512, .rope_width = 64};
  options.cache_bytes = 8 * options.layout.page_bytes();
  LaneWorld world(options);
  TestClient client(world);
  const RecordRange range{0, 1, 0, 500};
  REQUIRE(client.Publish(1, range).status().ok());
  const TestReply reply = client.Fetch(1, range);
  REQUIRE(reply.status().ok());
  CHECK(reply.payload == TinyRecords(client.layout(), range));
  const Records records(client.layout(), 500);
  const TestClient::Query query = {
      .scale = 0.01f, .heads = 16, .tokens = 8, .chunks = {TestClient::Entry(1, 500)}};
  CheckEqual(client.Attend(query), Reference(client, query, records));
  CHECK(client.Until([&] { return world.Quiet(); }));
}

TEST_CASE("best effort leaves out what is missing and lists it") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(2, 50);
  const Records records(client.layout(), 50);
  TestClient::Query query = {
      .chunks = {TestClient::Entry(1, 10), TestClient::Entry(2, 50), TestClient::Entry(2, 51)}};
  CHECK(client.Attend(query).code() == wire::Code::kNotFound);
  query.flags = wire::kOutFp32 | wire::kBestEffort;
  const TestReply reply = client.Attend(query);
  const auto& missing = std::get<AttendReply>(reply.reply.body).missing;
  REQUIRE(missing.size() == 2);
  CHECK(missing[0].chunk_lo == 1);
  CHECK(missing[0].code == static_cast<uint16_t>(wire::Code::kNotFound));
  CHECK(missing[1].code == static_cast<uint16_t>(wire::Code::kOutOfRange));
  const TestClient::Query rest = {.chunks = {TestClient::Entry(2, 50)}};
  CheckEqual(reply, Reference(client, rest, records));
}

TEST_CASE("groups of one request see their own chunks, missing ones left out") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 30);
  client.Fill(2, 30);
  TestClient::Query query = {.tokens = 2};
  query.chunks = {TestClient::Entry(9, 5), TestClient::Entry(1, 30), TestClient::Entry(2, 20)};
  query.groups = {{.first_token = 0, .tokens = 1, .first_chunk = 0, .chunks = 1},
                  {.first_token = 1, .tokens = 1, .first_chunk = 1, .chunks = 2}};
  query.flags = wire::kOutFp32 | wire::kBestEffort;
  const TestReply reply = client.Attend(query);
  REQUIRE(reply.status().ok());
  std::vector<float> values(reply.payload.size() / sizeof(float));
  std::memcpy(values.data(), reply.payload.data(), reply.payload.size());
  const size_t lse = size_t{2} * 2 * 8;
  CHECK(values[lse] == -INFINITY);
  CHECK(values[0] == 0);
  CHECK(std::isfinite(values[lse + 2]));
}

TEST_CASE("leases, inspection and echo") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 100);
  REQUIRE(client.Publish(2, 10).status().ok());
  CHECK(client.Pin({1, 3}, 1000).code() == wire::Code::kNotFound);
  CHECK(client.Pin({1, 2}, 600'001).code() == wire::Code::kInvalidArgument);
  CHECK(TestClient(world).Pin({1, 2}, 1000).code() == wire::Code::kFailedPrecondition);
  CHECK(world.stats().chunks_pinned.Get() == 0);
  CHECK(client.Pin({1, 2}, 60'000).status().ok());
  CHECK(client.Until([&] { return world.stats().chunks_pinned.Get() == 2; }));
  CHECK(client.Release({1, 2, 3}).status().ok());
  CHECK(client.Until([&] { return world.stats().chunks_pinned.Get() == 0; }));

  const TestReply stat = client.Stat({1, 2, 3});
  const auto& entries = std::get<StatReply>(stat.reply.body).entries;
  REQUIRE(entries.size() == 3);
  CHECK((entries[0].present == 1 && entries[0].sealed == 1 && entries[0].tokens == 100));
  CHECK(entries[0].checksum == TinyChecksum(client.layout(), 100));
  CHECK((entries[1].present == 1 && entries[1].sealed == 0 && entries[1].tokens == 10));
  CHECK(entries[2].present == 0);

  CHECK(client.Ping().status().ok());
  const std::vector<std::byte> sent(5000, std::byte{7});
  CHECK(client.Echo(sent, 100).payload == std::vector<std::byte>(100, std::byte{7}));
  const TestReply longer = client.Echo(sent, 6000);
  REQUIRE(longer.payload.size() == 6000);
  CHECK(longer.payload[4999] == std::byte{7});
  CHECK(longer.payload[5000] == std::byte{0});
  CHECK(client.Echo({}, 0).status().ok());
}

TEST_CASE("queries of many clients for one chunk share batches and all get their answer") {
  LaneWorld world;
  TestClient publisher(world);
  publisher.Fill(1, 200);
  const Records records(publisher.layout(), 200);
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(std::make_unique<TestClient>(world));
  const TestClient::Query query = {.heads = 4, .chunks = {TestClient::Entry(1, 200)}};
  const auto expected = Reference(publisher, query, records);
  std::vector<std::vector<uint64_t>> ids(clients.size());
  for (int round = 0; round < 10; ++round) {
    for (size_t c = 0; c < clients.size(); ++c) ids[c].push_back(clients[c]->SendAttend(query));
  }
  for (size_t c = 0; c < clients.size(); ++c) {
    for (const uint64_t id : ids[c]) CheckEqual(clients[c]->Take(id), expected);
  }
  CHECK(world.stats().attend_batched_requests.Get() == 40);
  CHECK(world.stats().attend_batches.Get() <= 40);
}

TEST_CASE("operators see the chunks, the transports and that the lane turns") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(0x12, 10);
  ChunkListing listing;
  std::atomic<bool> done = false;
  world.lane->ListChunks("0012", 10, [&](ChunkListing l) {
    listing = std::move(l);
    done = true;
  });
  REQUIRE(WaitFor([&] { return done.load(); }));
  REQUIRE(listing.chunks.size() == 1);
  CHECK(listing.chunks[0].sealed);
  CHECK(world.lane->Transports().find("tcp") != std::string::npos);
  CHECK(world.lane->DescribeBackend().find(world.lane->options().device) == 0);
  const absl::Time before = SteadyNow();
  CHECK(WaitFor([&] { return world.lane->last_turn() > before; }, {}, absl::Seconds(2)));
}

TEST_CASE("a lane with a large cache is there at once and costs nothing while it idles") {
  LaneOptions options = TestOptions();
  options.layout = {.model = "deep", .layers = 61, .latent_width = 512, .rope_width = 64};
  options.cache_bytes = uint64_t{64} << 30;
  const absl::Time start = absl::Now();
  LaneWorld world(options);
  world.Settle();
  CHECK(absl::Now() - start < absl::Seconds(1));
  TestClient client(world);
  REQUIRE(client.Ping().status().ok());

  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::seconds(2));
  // This process sleeps otherwise: one percent of two seconds.
  CHECK(std::clock() - before < CLOCKS_PER_SEC / 50);
}

TEST_CASE("impossible lanes are refused by name") {
  const auto context = TestContext();
  LaneOptions options = TestOptions();
  options.device = "cuda:99";
  const absl::Status no_device = Lane::Create(options, context).status();
  CHECK_FALSE(no_device.ok());
  CHECK(no_device.message().find("cuda:99") == 0);
  options.device = "tpu:0";
  CHECK(Lane::Create(options, context).status().code() == absl::StatusCode::kInvalidArgument);
  options = TestOptions();
  options.cache_bytes = 1;
  CHECK(Lane::Create(options, context).status().code() == absl::StatusCode::kInvalidArgument);
  options = TestOptions();
  options.layout.latent_width = 7;
  CHECK(Lane::Create(options, context).status().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace latentd
