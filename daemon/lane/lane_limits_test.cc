// Bounds: beyond each of them RESOURCE_EXHAUSTED at once, and afterwards everything is as before.
#include <catch2/catch.hpp>

#include <vector>

#include "daemon/lane/lane.h"
#include "daemon/lane/lane_test_client.h"

namespace latentd {
namespace {

using wire::Code;
using Query = TestClient::Query;

LaneOptions WideOptions(uint32_t pages) {
  LaneOptions options = TestOptions();
  options.layout = {.model = "wide", .layers = 1, .latent_width = 512, .rope_width = 64};
  options.cache_bytes = pages * options.layout.page_bytes();
  return options;
}

TEST_CASE("a flood beyond a session's bound is refused at once, the rest is answered") {
  LaneOptions options = WideOptions(64);
  options.limits.inflight_per_session = 4;
  LaneWorld world(options);
  TestClient client(world);
  client.Fill(1, 64 * 8);
  const Query query = {
      .scale = 0.01f, .heads = 64, .tokens = 4, .chunks = {TestClient::Entry(1, 64 * 8)}};
  std::vector<uint64_t> ids;
  for (int i = 0; i < 60; ++i) ids.push_back(client.SendAttend(query));
  int ok = 0, refused = 0;
  for (const uint64_t id : ids) {
    const TestReply reply = client.Take(id);
    if (reply.status().ok()) {
      ++ok;
      continue;
    }
    ++refused;
    CHECK(reply.code() == Code::kResourceExhausted);
    CHECK(reply.text().find("the session has its limit of 4 requests") != std::string::npos);
    CHECK(reply.reply.header.retry_after_us > 0);
  }
  CHECK(ok >= 4);
  CHECK(refused > 0);
  CHECK(client.Until([&] { return world.Quiet(); }));
  CHECK(world.stats().chunks_pinned.Get() == 0);
}

TEST_CASE("a client that keeps to its bound is never refused") {
  LaneOptions options = WideOptions(16);
  options.limits.inflight_per_session = 8;
  LaneWorld world(options);
  TestClient client(world);
  client.Fill(1, 100);
  const Query query = {
      .scale = 0.01f, .heads = 64, .tokens = 2, .chunks = {TestClient::Entry(1, 100)}};
  std::vector<uint64_t> in_flight;
  for (int i = 0; i < 8; ++i) in_flight.push_back(client.SendAttend(query));
  for (int i = 0; i < 200; ++i) {
    uint64_t& id = in_flight[i % in_flight.size()];
    REQUIRE(client.Take(id).status().ToString() == "OK");
    id = client.SendAttend(query);
  }
  for (const uint64_t id : in_flight) REQUIRE(client.Take(id).status().ok());
}

TEST_CASE("one session's flood does not keep another's request out") {
  LaneOptions options = WideOptions(64);
  options.limits.inflight_per_session = 16;
  LaneWorld world(options);
  TestClient flooder(world);
  flooder.Fill(1, 64 * 8);
  TestClient client(world);
  const Query heavy = {
      .scale = 0.01f, .heads = 64, .tokens = 8, .chunks = {TestClient::Entry(1, 64 * 8)}};
  std::vector<uint64_t> ids;
  for (int i = 0; i < 16; ++i) ids.push_back(flooder.SendAttend(heavy));
  flooder.Until([&] { return world.stats().requests_in_flight.Get() > 0; });
  const Query light = {.scale = 0.01f, .heads = 1, .chunks = {TestClient::Entry(1, 1)}};
  CHECK(client.Attend(light).status().ok());
  for (const uint64_t id : ids) CHECK(flooder.Take(id).status().ok());
}

TEST_CASE("requests larger than the bounds for one are refused by name") {
  LaneOptions options = TestOptions();
  options.limits.rows_per_request = 8;
  options.limits.chunks_per_request = 2;
  options.limits.payload_bytes_per_request = 4096;
  LaneWorld world(options);
  TestClient client(world);
  client.Fill(1, 10);
  Query query = {.heads = 3, .tokens = 3, .chunks = {TestClient::Entry(1, 10)}};
  TestReply reply = client.Attend(query);
  CHECK(reply.code() == Code::kResourceExhausted);
  CHECK(reply.text().find("9 rows; the limit is 8") != std::string::npos);
  query = {.chunks = {3, TestClient::Entry(1, 10)}};
  CHECK(client.Attend(query).code() == Code::kResourceExhausted);
  CHECK(client.Publish(2, 200).code() == Code::kResourceExhausted);
  CHECK(client.Echo({}, 4097).code() == Code::kResourceExhausted);
  CHECK(client.Stat({1, 2, 3}).code() == Code::kResourceExhausted);
  CHECK(client.Fetch(1, {0, 2, 0, 10}).status().ok());
}

TEST_CASE("an attend is bounded by its rows times the tokens that they see, entry by entry") {
  LaneOptions options = TestOptions();
  options.limits.work_per_request = 60;
  LaneWorld world(options);
  TestClient client(world);
  client.Fill(1, 10);
  const wire::ChunkEntry chunk = TestClient::Entry(1, 10);
  CHECK(client.Attend({.heads = 2, .tokens = 3, .chunks = {chunk}}).status().ok());
  const TestReply reply = client.Attend({.heads = 2, .tokens = 1, .chunks = {4, chunk}});
  CHECK(reply.code() == Code::kResourceExhausted);
  CHECK(reply.text().find("80 rows times tokens; the limit is 60") != std::string::npos);
  CHECK(reply.reply.header.retry_after_us == 0);
  // Groups count by themselves: 2 x 1 x 10 + 2 x 2 x 10 are in bounds, more are not.
  Query query = {.heads = 2,
                 .tokens = 3,
                 .chunks = {2, chunk},
                 .groups = {{.tokens = 1, .first_chunk = 0, .chunks = 1},
                            {.first_token = 1, .tokens = 2, .first_chunk = 1, .chunks = 1}}};
  CHECK(client.Attend(query).status().ok());
  query.heads = 3;
  CHECK(client.Attend(query).code() == Code::kResourceExhausted);
  // A number that only a hostile client sends.
  query.chunks = {2, TestClient::Entry(1, ~uint32_t{0})};
  CHECK(client.Attend(query).code() == Code::kResourceExhausted);
}

TEST_CASE("a publish is bounded by what a lane can take in one turn") {
  LaneOptions options = TestOptions();
  options.limits.publish_bytes_per_request = 10 * 2 * options.layout.record_bytes();
  LaneWorld world(options);
  TestClient client(world);
  const TestReply reply = client.Publish(1, 11);
  CHECK(reply.code() == Code::kResourceExhausted);
  CHECK(reply.text().find("a publish of 440 payload bytes; the limit is 400") != std::string::npos);
  CHECK(client.Publish(1, 10).status().ok());
  CHECK(client.Fetch(1, {0, 2, 0, 10}).status().ok());
  CHECK(client.Echo(std::vector<std::byte>(1000), 1000).status().ok());
}

TEST_CASE("bytes in flight are bounded for the session") {
  LaneOptions options = TestOptions();
  options.limits.inflight_bytes_per_session = 10'000;
  LaneWorld world(options);
  TestClient client(world);
  const TestReply reply = client.Echo(std::vector<std::byte>(6000), 6000);
  CHECK(reply.code() == Code::kResourceExhausted);
  CHECK(reply.reply.header.retry_after_us == 0);  // waiting does not make it smaller
  CHECK(client.Echo(std::vector<std::byte>(4000), 4000).status().ok());
}

TEST_CASE("a full store refuses by name, with a hint, and takes more when a lease is over") {
  LaneOptions options = TestOptions(4);
  options.high_watermark = options.low_watermark = 1;
  LaneWorld world(options);
  TestClient client(world);
  client.Fill(1, 4 * 64);
  REQUIRE(client.Pin({1}, 60'000).status().ok());
  const TestReply reply = client.Publish(2, 1);
  CHECK(reply.code() == Code::kResourceExhausted);
  CHECK(reply.text().find("the cache is full") != std::string::npos);
  CHECK(reply.reply.header.retry_after_us > 0);
  CHECK(client.Release({1}).status().ok());
  CHECK(client.Publish(2, 1).status().ok());
  CHECK(std::get<StatReply>(client.Stat({1}).reply.body).entries[0].present == 0);
  CHECK(client.Until([&] { return world.stats().evicted_chunks.Get() == 1; }));
}

TEST_CASE("a session that keeps chunks open gets no more than its share, without a hint to wait") {
  LaneOptions options = TestOptions(8);
  options.limits.open_bytes_per_session = 2 * options.layout.page_bytes();
  LaneWorld world(options);
  TestClient hoarder(world), other(world);
  CHECK(hoarder.Publish(1, 2 * 64).status().ok());
  const TestReply reply = hoarder.Publish(2, 1);
  CHECK(reply.code() == Code::kResourceExhausted);
  CHECK(reply.text().find("its limit is 2") != std::string::npos);
  CHECK(reply.reply.header.retry_after_us == 0);
  CHECK(other.Publish(2, 2 * 64).status().ok());
  CHECK(hoarder.Seal(1, 2 * 64).status().ok());
  CHECK(hoarder.Publish(3, 1).status().ok());
}

TEST_CASE("more than one reply can say is refused, not cut") {
  LaneOptions options = TestOptions();
  options.limits.chunks_per_request = 16384;
  LaneWorld world(options);
  TestClient client(world);
  const size_t ids = (client.worker().max_header_bytes() - 200) / sizeof(wire::IdEntry);
  const TestReply reply = client.Stat(std::vector<uint64_t>(ids, 1));
  CHECK(reply.code() == Code::kResourceExhausted);
  CHECK(client.Stat(std::vector<uint64_t>(ids / 4, 1)).status().ok());
}

}  // namespace
}  // namespace latentd
