// What a daemon answers to requests that are wrong: the typed error that names what is wrong, and a
// right answer to the next good request with its accounting unchanged. Sent by hand, because the
// client library refuses to send most of it.
#include <catch2/catch.hpp>
#include <cstring>
#include <limits>

#include "kernels/bf16.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/raw_calls.h"
#include "transport/errors.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;

constexpr uint32_t kHeads = 4;
constexpr uint32_t kTokens = 2;
constexpr uint32_t kRows = kHeads * kTokens;
constexpr uint32_t kChunkTokens = 100;

// A daemon with one sealed chunk, a requester, and a query whose answer is known.
class World {
 public:
  explicit World(ClusterOptions options = {})
      : cluster(Patient(std::move(options))),
        requester(cluster.endpoint()),
        random(11),
        chunk(
            RandomChunk({0x1234'5678'9abc'def0, 7}, kChunkTokens, 2, RecordFormat::kBf16, random)),
        rows(RandomRows(kRows, Geometry{}, random)) {
    const auto published = Publish(requester, chunk, WholeOf(chunk));
    REQUIRE(published.ok());
    REQUIRE(published->text() == "");
    const auto sealed = Seal(requester, chunk);
    REQUIRE(sealed.ok());
    REQUIRE(sealed->text() == "");
    const ExpectedPart part{&chunk, kChunkTokens};
    expected = Expect(rows, kTokens, kHeads, 1, 0.05f, true, {&part, 1});
    before = cluster.node(0).Account();
  }

  RawAttend Good() const {
    return {.layer = 1,
            .heads = kHeads,
            .tokens = kTokens,
            .causal = true,
            .parts = {{chunk.id, kChunkTokens}},
            .rows = rows};
  }

  // Tries something, and whether it did harm. Cases share a daemon: starting one costs more than
  // all of them.
  template <typename Try>
  void Case(const std::string& name, Try&& attempt) {
    INFO(name);
    attempt();
    CheckUnharmed();
  }

  // The daemon answers rightly and has lost nothing.
  void CheckUnharmed() {
    const Partials got = PartialsOf(Attend(requester, Good()), kRows, 512);
    const Difference difference = Compare(got.out, got.lse, expected.out, expected.lse, 512);
    CHECK(difference.Within(kOutBound, kLseBound));
    Accounting now;
    Eventually(Scaled(absl::Seconds(5)), [&] {
      now = cluster.node(0).Account();
      return now == before;
    });
    CHECK(now == before);
    CHECK(cluster.node(0).process().Running());
  }

  static ClusterOptions Patient(ClusterOptions options) {
    options.liveness = kPatientLiveness;
    return options;
  }

  Cluster cluster;
  RawRequester requester;
  std::mt19937_64 random;
  ChunkData chunk;
  std::vector<Bf16> rows;
  Partials expected;
  Accounting before;
};

// The reply, which must have come and be an error of this code whose text has these words.
void CheckRefused(const absl::StatusOr<RawReply>& reply, wire::Code code,
                  const std::vector<std::string>& words) {
  INFO(reply.status().ToString());
  REQUIRE(reply.ok());
  INFO("text: " << reply->text());
  CHECK(CodeName(reply->code()) == CodeName(code));
  CHECK(reply->payload.empty());
  for (const std::string& word : words) CHECK_THAT(reply->text(), Contains(word));
}

TEST_CASE("queries that cannot be answered are refused by name") {
  World world;
  const std::string name = ToString(world.chunk.id);
  const ChunkId stranger{0x4242'0000'0000'0000, 99};

  world.Case("an unknown chunk", [&] {
    RawAttend attend = world.Good();
    attend.parts = {{stranger, 1}};
    CheckRefused(Attend(world.requester, attend), wire::Code::kNotFound, {ToString(stranger)});
  });
  world.Case("an unknown chunk beside a known one", [&] {
    RawAttend attend = world.Good();
    attend.parts.push_back({stranger, 1});
    CheckRefused(Attend(world.requester, attend), wire::Code::kNotFound, {ToString(stranger)});
  });
  world.Case("more visible tokens than have arrived", [&] {
    RawAttend attend = world.Good();
    attend.parts = {{world.chunk.id, kChunkTokens + 1}};
    CheckRefused(Attend(world.requester, attend), wire::Code::kOutOfRange, {name, "100", "101"});
  });
  world.Case("a layer that the layout lacks", [&] {
    RawAttend attend = world.Good();
    attend.layer = 2;
    CheckRefused(Attend(world.requester, attend), wire::Code::kOutOfRange, {"layer"});
  });
  world.Case("no heads", [&] {
    RawAttend attend = world.Good();
    attend.heads = 0;
    attend.rows = {};
    CheckRefused(Attend(world.requester, attend), wire::Code::kInvalidArgument, {"heads", "0"});
  });
  world.Case("too many heads", [&] {
    RawAttend attend = world.Good();
    attend.heads = kMaxHeads + 1;
    CheckRefused(Attend(world.requester, attend), wire::Code::kInvalidArgument,
                 {"heads", "129", "128"});
  });
  world.Case("no tokens", [&] {
    RawAttend attend = world.Good();
    attend.tokens = 0;
    attend.rows = {};
    CheckRefused(Attend(world.requester, attend), wire::Code::kInvalidArgument, {"tokens", "0"});
  });
  world.Case("fewer rows than tokens and heads say", [&] {
    RawAttend attend = world.Good();
    attend.rows = attend.rows.first(attend.rows.size() - 1);
    CheckRefused(Attend(world.requester, attend), wire::Code::kInvalidArgument, {"payload"});
  });
  world.Case("a scale that is not a number", [&] {
    RawAttend attend = world.Good();
    attend.scale = std::numeric_limits<float>::quiet_NaN();
    CheckRefused(Attend(world.requester, attend), wire::Code::kInvalidArgument, {"scale"});
  });
  world.Case("a row with a NaN", [&] {
    std::vector<Bf16> rows = world.rows;
    rows[5 * 576 + 17] = Bf16{kBf16QuietNan};
    RawAttend attend = world.Good();
    attend.rows = rows;
    CheckRefused(Attend(world.requester, attend), wire::Code::kInvalidArgument,
                 {"row", "token 1", "head 1"});
  });
  world.Case("a row with an infinity", [&] {
    std::vector<Bf16> rows = world.rows;
    rows[7 * 576 + 575] = FloatToBf16(-std::numeric_limits<float>::infinity());
    RawAttend attend = world.Good();
    attend.rows = rows;
    CheckRefused(Attend(world.requester, attend), wire::Code::kInvalidArgument,
                 {"row", "token 1", "head 3"});
  });
}

TEST_CASE("headers that do not fit are refused, whoever sends them") {
  World world;
  const auto attend = [&](const Spoil& spoil) {
    return Attend(world.requester, world.Good(), spoil);
  };

  world.Case("another layout", [&] {
    CheckRefused(attend([](auto& header) { header.layout_hash ^= 1; }), wire::Code::kLayoutMismatch,
                 {"layout"});
  });
  world.Case("a deadline that has passed", [&] {
    CheckRefused(attend([](auto& header) { header.deadline_us = 0; }),
                 wire::Code::kDeadlineExceeded, {"deadline"});
  });
  world.Case("another generation", [&] {
    CheckRefused(attend([](auto& header) { header.generation ^= 1; }), wire::Code::kWrongGeneration,
                 {"generation"});
  });
  world.Case("a token that was never given out", [&] {
    CheckRefused(attend([](auto& header) { header.token_lo ^= 1; }), wire::Code::kUnauthenticated,
                 {"token"});
    REQUIRE(world.requester.Reconnect().ok());
  });
  world.Case("an older epoch, and the reply carries the newer one", [&] {
    const auto reply = attend([](auto& header) { --header.epoch; });
    CheckRefused(reply, wire::Code::kWrongEpoch, {"epoch"});
    CHECK(reply->header.epoch == world.requester.session().table().epoch());
  });
  world.Case("an epoch that the holder does not know yet", [&] {
    const auto reply = attend([](auto& header) { ++header.epoch; });
    CheckRefused(reply, wire::Code::kWrongEpoch, {"epoch"});
    CHECK(reply->header.epoch == world.requester.session().table().epoch());
  });
  world.Case("a flag that this version does not know", [&] {
    CheckRefused(attend([](auto& header) { header.flags |= 0x8000; }), wire::Code::kUnimplemented,
                 {"flag"});
  });
  world.Case("another version of the protocol", [&] {
    // BuildAttend writes the version itself.
    wire::RequestHeader header = world.requester.Header();
    MessageBytes message;
    BuildPing(header, &message);
    const uint16_t version = 7;
    std::memcpy(message.data() + offsetof(wire::RequestHeader, version), &version, sizeof(version));
    CheckRefused(world.requester.Call(message, header.request_id), wire::Code::kUnimplemented,
                 {"version", "7"});
  });
  world.Case("an opcode that does not exist", [&] {
    wire::RequestHeader header = world.requester.Header();
    MessageBytes message;
    BuildPing(header, &message);
    const uint16_t opcode = 99;
    std::memcpy(message.data() + offsetof(wire::RequestHeader, opcode), &opcode, sizeof(opcode));
    CheckRefused(world.requester.Call(message, header.request_id), wire::Code::kUnimplemented,
                 {"opcode", "99"});
  });
}

TEST_CASE("an endpoint without a session is answered UNAUTHENTICATED") {
  World world;
  RawRequester stranger(world.cluster.endpoint(), {.hello = false, .name = "stranger"});
  RawAttend attend = world.Good();
  CheckRefused(Attend(stranger, attend,
                      [](auto& header) {
                        header.token_hi = 1;
                        header.token_lo = 2;
                      }),
               wire::Code::kUnauthenticated, {"token"});
}

TEST_CASE("records that cannot be kept are refused by name") {
  World world;
  ChunkData other =
      RandomChunk({0x7777'0000'0000'0000, 1}, 80, 2, RecordFormat::kBf16, world.random);

  world.Case("the same bytes again are fine", [&] {
    const auto again = Publish(world.requester, world.chunk, {.layers = 1, .tokens = 50});
    REQUIRE(again.ok());
    CHECK(again->code() == wire::Code::kOk);
    const auto seal = Seal(world.requester, world.chunk);
    REQUIRE(seal.ok());
    CHECK(seal->code() == wire::Code::kOk);
  });
  world.Case("other bytes for a record that is there", [&] {
    ChunkData changed = world.chunk;
    changed.records[(uint64_t{kChunkTokens} + 42) * 1152] ^= std::byte{1};  // layer 1, token 42
    CheckRefused(Publish(world.requester, changed, WholeOf(changed)), wire::Code::kAlreadyExists,
                 {ToString(changed.id), "layer 1", "token 42"});
  });
  world.Case("a record that is not finite", [&] {
    const Bf16 nan{kBf16QuietNan};
    std::memcpy(other.records.data() + (80 + 33) * 1152 + 10, &nan, sizeof(nan));
    CheckRefused(Publish(world.requester, other, WholeOf(other)), wire::Code::kInvalidArgument,
                 {"layer 1", "token 33"});
  });
  world.Case("a layer that the layout lacks", [&] {
    ChunkData tall = RandomChunk(other.id, 10, 3, RecordFormat::kBf16, world.random);
    CheckRefused(Publish(world.requester, tall, WholeOf(tall)), wire::Code::kOutOfRange, {"layer"});
  });
  world.Case("no tokens", [&] {
    CheckRefused(Publish(world.requester, other, {.layers = 2, .tokens = 0}),
                 wire::Code::kInvalidArgument, {"tokens"});
  });
  world.Case("a payload that is too short", [&] {
    CheckRefused(Publish(world.requester, other, WholeOf(other),
                         [](auto& header) { header.payload_bytes -= 1; }),
                 wire::Code::kInvalidArgument, {"payload"});
  });
  world.Case("tokens beyond the end of a sealed chunk", [&] {
    ChunkData longer =
        RandomChunk(world.chunk.id, kChunkTokens + 1, 2, RecordFormat::kBf16, world.random);
    CheckRefused(
        Publish(world.requester, longer, {.layers = 1, .first_token = kChunkTokens, .tokens = 1}),
        wire::Code::kFailedPrecondition, {ToString(longer.id)});
  });
}

TEST_CASE("an open chunk is visible exactly as far as it has arrived") {
  World world;
  const ChunkData open =
      RandomChunk({0x0102'0000'0000'0000, 3}, 64, 2, RecordFormat::kBf16, world.random);
  // Layer 0 wholly, layer 1 only tokens 0 to 19 and 30 to 63.
  for (const Range& range :
       {Range{.layers = 1, .tokens = 64}, Range{.first_layer = 1, .layers = 1, .tokens = 20},
        Range{.first_layer = 1, .layers = 1, .first_token = 30, .tokens = 34}}) {
    const auto published = Publish(world.requester, open, range);
    REQUIRE(published.ok());
    REQUIRE(published->text() == "");
  }
  const auto ask = [&](uint32_t layer, uint32_t visible) {
    RawAttend attend = world.Good();
    attend.layer = layer;
    attend.parts = {{open.id, visible}};
    return Attend(world.requester, attend);
  };
  const ExpectedPart part{&open, 20};
  const Partials expected = Expect(world.rows, kTokens, kHeads, 1, 0.05f, true, {&part, 1});
  const Partials got = PartialsOf(ask(1, 20), kRows, 512);
  CHECK(Compare(got.out, got.lse, expected.out, expected.lse, 512).Within(kOutBound, kLseBound));
  CheckRefused(ask(1, 21), wire::Code::kOutOfRange, {ToString(open.id), "20", "21"});
  CheckRefused(ask(1, 64), wire::Code::kOutOfRange, {ToString(open.id)});
  CHECK(PartialsOf(ask(0, 64), kRows, 512).lse.size() == kRows);
  CheckRefused(ask(0, 65), wire::Code::kOutOfRange, {ToString(open.id)});

  CheckRefused(Seal(world.requester, open), wire::Code::kFailedPrecondition,
               {ToString(open.id), "layer 1", "20"});
  const auto rest = Publish(world.requester, open,
                            {.first_layer = 1, .layers = 1, .first_token = 20, .tokens = 10});
  REQUIRE(rest.ok());
  CheckRefused(Seal(world.requester, open, 4711), wire::Code::kDataLoss,
               {ToString(open.id), "checksum"});
  const auto sealed = Seal(world.requester, open);
  REQUIRE(sealed.ok());
  CHECK(sealed->text() == "");
}

TEST_CASE("a layer that was never published cannot be attended or fetched") {
  World world;
  const ChunkData half =
      RandomChunk({0x0a0b'0000'0000'0000, 3}, 30, 2, RecordFormat::kBf16, world.random);
  const auto published = Publish(world.requester, half, {.layers = 1, .tokens = 30});
  REQUIRE(published.ok());
  RawAttend attend = world.Good();
  attend.parts = {{half.id, 30}};
  CheckRefused(Attend(world.requester, attend), wire::Code::kOutOfRange,
               {ToString(half.id), "layer 1"});
  CheckRefused(Fetch(world.requester, half.id, {.first_layer = 1, .layers = 1, .tokens = 30}),
               wire::Code::kOutOfRange, {ToString(half.id), "layer 1"});
  const auto fetched = Fetch(world.requester, half.id, {.layers = 1, .tokens = 30});
  REQUIRE(fetched.ok());
  const auto layer = half.Layer(0, 0, 30);
  CHECK(fetched->payload == std::vector<std::byte>(layer.begin(), layer.end()));
}

TEST_CASE("a full store refuses what it cannot keep and goes on serving what it has") {
  // 28 pages of 2 layers, and one session may keep more than all of them open.
  World world({.cache = "4MiB", .limits = "open_bytes_per_session: 8MiB"});
  std::vector<ChunkData> kept;
  absl::StatusOr<RawReply> reply;
  for (uint64_t i = 0; i < 64; ++i) {
    ChunkData chunk =
        RandomChunk({0x5000'0000'0000'0000 + i, i}, 64, 2, RecordFormat::kBf16, world.random);
    reply = Publish(world.requester, chunk, WholeOf(chunk));
    REQUIRE(reply.ok());
    if (reply->code() != wire::Code::kOk) break;
    kept.push_back(std::move(chunk));
  }
  CheckRefused(reply, wire::Code::kResourceExhausted, {"page"});
  CHECK(reply->header.retry_after_us > 0);
  CHECK(kept.size() >= 20);

  // Every open chunk is still whole.
  for (const ChunkData& chunk : {kept.front(), kept.back()}) {
    const auto fetched = Fetch(world.requester, chunk.id, WholeOf(chunk));
    REQUIRE(fetched.ok());
    CHECK(fetched->payload == chunk.records);
  }
  // Its session's end gives the pages back.
  REQUIRE(world.requester.control()
              .Close(world.requester.session().token_hi(), world.requester.session().token_lo())
              .ok());
  CHECK(Eventually(Scaled(absl::Seconds(5)),
                   [&] { return world.cluster.node(0).Account().chunks_open == 0; }));
}

TEST_CASE("one session's open chunks do not keep another's out") {
  World world({.cache = "4MiB"});
  absl::StatusOr<RawReply> reply;
  const auto publish = [&](RawRequester& requester, uint64_t i) {
    const ChunkData chunk =
        RandomChunk({0x5000'0000'0000'0000 + i, i}, 64, 2, RecordFormat::kBf16, world.random);
    return Publish(requester, chunk, WholeOf(chunk));
  };
  uint64_t kept = 0;
  for (; kept < 64; ++kept) {
    reply = publish(world.requester, kept);
    REQUIRE(reply.ok());
    if (reply->code() != wire::Code::kOk) break;
  }
  CheckRefused(reply, wire::Code::kResourceExhausted,
               {"the session has 14 pages in open chunks", "open_bytes_per_session"});
  CHECK(reply->header.retry_after_us == 0);  // nothing comes of waiting
  RawRequester other(world.cluster.endpoint());
  CHECK(publish(other, kept)->code() == wire::Code::kOk);
}

TEST_CASE("a sealed chunk that nobody uses makes room, a leased one stays") {
  World world({.cache = "4MiB"});
  const auto leased = Pin(world.requester, world.chunk.id, 60'000);
  REQUIRE(leased.ok());
  REQUIRE(leased->text() == "");
  for (uint64_t i = 0; i < 60; ++i) {
    const ChunkData chunk =
        RandomChunk({0x6000'0000'0000'0000 + i, i}, 64, 2, RecordFormat::kBf16, world.random);
    const auto published = Publish(world.requester, chunk, WholeOf(chunk));
    REQUIRE(published.ok());
    REQUIRE(published->text() == "");
    REQUIRE(Seal(world.requester, chunk)->text() == "");
  }
  const auto fetched = Fetch(world.requester, world.chunk.id, WholeOf(world.chunk));
  REQUIRE(fetched.ok());
  CHECK(fetched->payload == world.chunk.records);
  CHECK(world.cluster.node(0).Status().lanes(0).evicted_chunks() > 0);
  REQUIRE(Release(world.requester, world.chunk.id)->text() == "");
}

TEST_CASE("more requests in flight than the limit are refused at once with a hint") {
  World world({.limits = "inflight_per_session: 2"});
  // Big enough to be still there when the later ones come.
  const auto rows = RandomRows(64 * 128, Geometry{}, world.random);
  RawAttend heavy = world.Good();
  heavy.heads = 128;
  heavy.tokens = 64;
  heavy.rows = rows;
  heavy.flags = 0;
  std::vector<uint64_t> ids;
  for (int i = 0; i < 12; ++i) {
    ids.push_back(
        PostAttend(world.requester, heavy, [](auto& header) { header.deadline_us = 60'000'000; }));
  }
  int answered = 0;
  int refused = 0;
  for (const uint64_t id : ids) {
    const auto reply = world.requester.Await(id, Scaled(absl::Seconds(30)));
    REQUIRE(reply.ok());
    if (reply->code() == wire::Code::kOk) {
      ++answered;
      continue;
    }
    ++refused;
    CheckRefused(reply, wire::Code::kResourceExhausted, {"session", "limit of 2", "in flight"});
    CHECK(reply->header.retry_after_us > 0);
  }
  CHECK(answered >= 2);
  CHECK(refused >= 1);
  world.CheckUnharmed();
}

TEST_CASE("requests larger than the limits are refused with the limit's name") {
  World world({.limits = "chunks_per_request: 3, rows_per_request: 8"});
  world.Case("chunks", [&] {
    RawAttend attend = world.Good();
    attend.parts.assign(4, {world.chunk.id, 1});
    CheckRefused(Attend(world.requester, attend), wire::Code::kResourceExhausted, {"chunks", "3"});
  });
  world.Case("rows", [&] {
    RawAttend attend = world.Good();
    const auto rows = RandomRows(12, Geometry{}, world.random);
    attend.heads = 4;
    attend.tokens = 3;
    attend.rows = rows;
    CheckRefused(Attend(world.requester, attend), wire::Code::kResourceExhausted, {"rows", "8"});
  });
}

TEST_CASE("a draining daemon refuses new work with a hint and takes it again when resumed") {
  World world;
  REQUIRE(world.cluster.node(0).control().Drain().ok());
  const auto reply = Attend(world.requester, world.Good());
  CheckRefused(reply, wire::Code::kUnavailable, {"drain"});
  CHECK(reply->header.retry_after_us > 0);
  // What is held can still be taken away.
  const auto fetched = Fetch(world.requester, world.chunk.id, WholeOf(world.chunk));
  REQUIRE(fetched.ok());
  CHECK(fetched->payload == world.chunk.records);
  REQUIRE(world.cluster.node(0).control().Resume().ok());
  world.CheckUnharmed();
}

}  // namespace
}  // namespace latentd::testing
