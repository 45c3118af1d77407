// A client's own cache of chunks, over real daemons: what is fetched there answers as its holders
// would.
#include <algorithm>
#include <catch2/catch.hpp>

#include "kernels/rope.h"
#include "kernels/rotate.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/frontend.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kLayers = 2;
constexpr uint32_t kHeads = 8;

ClientOptions WithCache(const std::string& endpoint, uint64_t bytes) {
  ClientOptions options = Frontend::Options(endpoint);
  options.cache_bytes = bytes;
  options.cache_threads = 1;
  return options;
}

struct Asked {
  absl::Status status;
  Partials answer;
  AttendAnswer told;
};

Asked Ask(Client& client, const Question& question, std::span<const VisibleChunk> chunks,
          bool use_cache, absl::Duration timeout = absl::Seconds(20)) {
  const QueryGroup group{.tokens = question.tokens, .causal = question.causal, .chunks = chunks};
  Asked asked;
  asked.answer.out.assign(question.answer.out.size(), 0);
  asked.answer.lse.assign(question.answer.lse.size(), 0);
  const auto told = client.Attend({.layer = question.layer,
                                   .scale = question.scale,
                                   .heads = question.heads,
                                   .groups = {&group, 1},
                                   .rows = question.rows,
                                   .out_format = OutFormat::kFp32,
                                   .out = std::as_writable_bytes(std::span(asked.answer.out)),
                                   .lse = asked.answer.lse,
                                   .use_cache = use_cache},
                                  timeout);
  asked.status = told.status();
  if (told.ok()) asked.told = *told;
  return asked;
}

// The cluster's layout says nothing of its rope: the parameters are the defaults.
ChunkData Moved(ChunkData chunk, int32_t shift) {
  const auto rotation = Rope::Make({})->RotationBy(shift);
  REQUIRE(rotation.ok());
  RotateRecords(chunk.geometry, chunk.format, *rotation, chunk.records.data(),
                uint64_t{chunk.layers} * chunk.tokens);
  return chunk;
}

// Chunks of 30, 97, 164, ... tokens on the nodes in turn, some of them used at another position.
struct World {
  World(Cluster& cluster, Frontend& frontend, RecordFormat format, size_t count, uint64_t seed)
      : random(seed) {
    for (size_t i = 0; i < count; ++i) {
      const std::string& node = cluster.node(static_cast<int>(i) % cluster.size()).id();
      const auto tokens = static_cast<uint32_t>(30 + 67 * i);
      const int32_t shift = i % 3 == 1 ? static_cast<int32_t>(random() % 9000) - 4000 : 0;
      chunks.push_back(RandomChunk(frontend.IdOn(node, i), tokens, kLayers, format, random));
      REQUIRE(frontend.Publish(chunks.back()) == absl::OkStatus());
      moved.push_back(Moved(chunks.back(), shift));
      shifts.push_back(shift);
    }
  }
  Question Draw(std::vector<VisibleChunk>* visible) {
    std::vector<ExpectedPart> parts;
    visible->clear();
    for (size_t i = 0; i < chunks.size(); ++i) {
      if (random() % 4 == 0) continue;
      const auto tokens = static_cast<uint32_t>(random() % (chunks[i].tokens + 1));
      parts.push_back({&moved[i], tokens});
      visible->push_back({chunks[i].id, tokens, shifts[i]});
    }
    const auto tokens = static_cast<uint32_t>(1 + random() % 3);
    return MakeQuestion(random() % kLayers, tokens, kHeads, random() % 2 == 0, parts, random);
  }

  std::mt19937_64 random;
  std::vector<ChunkData> chunks, moved;
  std::vector<int32_t> shifts;
};

TEST_CASE("whatever is cached, a query's answer is the routed one") {
  const auto format = GENERATE(RecordFormat::kBf16, RecordFormat::kFp8);
  const uint64_t seed = std::random_device()();
  CAPTURE(seed);
  Cluster cluster({.nodes = 2, .record = format});
  Frontend frontend(WithCache(cluster.endpoint(), 24 << 20));
  Client& client = frontend.client();
  World world(cluster, frontend, format, 6, seed);
  uint64_t cached = 0, routed = 0;
  for (int round = 0; round < 30; ++round) {
    // Some more comes, whole or in runs.
    const size_t i = world.random() % world.chunks.size();
    std::vector<TokenRun> runs;
    for (uint64_t r = 0; r < world.random() % 4; ++r) {
      const auto first = static_cast<uint32_t>(world.random() % world.chunks[i].tokens);
      runs.push_back(
          {first, static_cast<uint32_t>(1 + world.random() % (world.chunks[i].tokens - first))});
    }
    const CachePart part{world.chunks[i].id, world.shifts[i], runs};
    const auto fetched = client.FetchToCache({&part, 1}, absl::Seconds(20));
    REQUIRE(fetched.status() == absl::OkStatus());
    if (world.random() % 8 == 0) client.DropFromCache({&world.chunks[i].id, 1});

    std::vector<VisibleChunk> visible;
    const Question question = world.Draw(&visible);
    const Asked alone = Ask(client, question, visible, false);
    const Asked mixed = Ask(client, question, visible, true);
    REQUIRE(alone.status == absl::OkStatus());
    REQUIRE(mixed.status == absl::OkStatus());
    CHECK(alone.told.cached_chunks == 0);
    cached += mixed.told.cached_chunks;
    routed += mixed.told.holders.size();
    const uint32_t width = world.chunks[0].geometry.latent_width;
    const Difference from_routed =
        Compare(mixed.answer.out, mixed.answer.lse, alone.answer.out, alone.answer.lse, width);
    const Difference from_reference = Compare(mixed.answer.out, mixed.answer.lse,
                                              question.answer.out, question.answer.lse, width);
    CAPTURE(round, from_routed.out_rel_l2, from_routed.lse_abs, from_reference.out_rel_l2);
    REQUIRE(from_routed.Within(kOutBound, kLseBound));
    REQUIRE(from_reference.Within(kOutBound, kLseBound));
  }
  CHECK(cached > 0);
  CHECK(routed > 0);
  const CacheCounters counters = client.counters().cache;
  CHECK(counters.hits == cached);
  CHECK(counters.bytes <= counters.capacity_bytes);
  CHECK(counters.peak_bytes >= counters.bytes);
}

TEST_CASE("a cached chunk answers when its holder is gone, and the chunks of others still route") {
  Cluster cluster({.nodes = 2});
  Frontend frontend(WithCache(cluster.endpoint(), 24 << 20));
  World world(cluster, frontend, RecordFormat::kBf16, 2, 3);
  const CachePart part{world.chunks[1].id, world.shifts[1]};
  REQUIRE(frontend.client().FetchToCache({&part, 1}).status() == absl::OkStatus());
  cluster.node(1).Kill();
  const std::vector<VisibleChunk> visible = {
      {world.chunks[0].id, world.chunks[0].tokens, world.shifts[0]},
      {world.chunks[1].id, world.chunks[1].tokens, world.shifts[1]}};
  const Question question = MakeQuestion(
      1, 1, kHeads, true,
      {{&world.moved[0], world.chunks[0].tokens}, {&world.moved[1], world.chunks[1].tokens}},
      world.random);
  const Asked asked = Ask(frontend.client(), question, visible, true);
  REQUIRE(asked.status == absl::OkStatus());
  CHECK(asked.told.cached_chunks == 1);
  CHECK(Compare(asked.answer.out, asked.answer.lse, question.answer.out, question.answer.lse,
                world.chunks[0].geometry.latent_width)
            .Within(kOutBound, kLseBound));
  CHECK_FALSE(Ask(frontend.client(), question, visible, false, absl::Seconds(2)).status.ok());
}

TEST_CASE("a cache without room says so, and evicts what was used longest ago") {
  Cluster cluster;
  const uint64_t page_bytes = kLayers * kPageTokens * RecordBytes({}, RecordFormat::kBf16);
  Frontend frontend(WithCache(cluster.endpoint(), 3 * page_bytes));
  Client& client = frontend.client();
  World world(cluster, frontend, RecordFormat::kBf16, 4, 4);  // of 1, 2, 3 and 4 pages
  const auto fetch = [&](size_t i) {
    const CachePart part{world.chunks[i].id, world.shifts[i]};
    return client.FetchToCache({&part, 1}).status();
  };
  CHECK(fetch(0) == absl::OkStatus());
  CHECK(fetch(1) == absl::OkStatus());
  CHECK(client.counters().cache.bytes == 3 * page_bytes);
  const absl::Status refused = fetch(3);
  CHECK(absl::IsResourceExhausted(refused));
  CHECK(refused.message().find(std::to_string(4 * page_bytes)) != std::string::npos);
  CHECK(client.counters().cache.evictions == 0);
  CHECK(fetch(2) == absl::OkStatus());
  CHECK(client.counters().cache.evictions == 2);
}

TEST_CASE("what cannot be cached is refused with a typed error") {
  Cluster cluster;
  Frontend frontend(WithCache(cluster.endpoint(), 24 << 20));
  Client& client = frontend.client();
  std::mt19937_64 random(5);
  const ChunkData open =
      RandomChunk(frontend.IdOn(cluster.node(0).id(), 1), 70, kLayers, RecordFormat::kBf16, random);
  REQUIRE(frontend.PublishPart(open, 0, 70) == absl::OkStatus());
  const auto fetch = [&](CachePart part) { return client.FetchToCache({&part, 1}).status(); };
  CHECK(absl::IsFailedPrecondition(fetch({open.id})));
  REQUIRE(frontend.Seal(open) == absl::OkStatus());
  const TokenRun beyond[] = {{60, 11}};
  const TokenRun none[] = {{60, 0}};
  CHECK(absl::IsOutOfRange(fetch({.chunk = open.id, .runs = beyond})));
  CHECK(absl::IsInvalidArgument(fetch({.chunk = open.id, .runs = none})));
  CHECK(absl::IsOutOfRange(fetch({.chunk = open.id, .position_shift = -(1 << 24)})));
  CHECK(absl::IsNotFound(fetch({frontend.IdOn(cluster.node(0).id(), 99)})));
  CHECK(client.counters().cache.bytes == 0);
  Frontend without(cluster.endpoint());
  const CachePart part{open.id};
  CHECK(absl::IsFailedPrecondition(without.client().FetchToCache({&part, 1}).status()));
}

TEST_CASE("a fetch of a holder that hangs ends by its deadline, or when it is cancelled") {
  Cluster cluster;
  Frontend frontend(WithCache(cluster.endpoint(), 24 << 20));
  Client& client = frontend.client();
  World world(cluster, frontend, RecordFormat::kBf16, 3, 6);
  const TokenRun some[] = {{0, 10}};
  const CachePart known{.chunk = world.chunks[2].id, .runs = some};
  REQUIRE(client.FetchToCache({&known, 1}).status() == absl::OkStatus());
  const uint64_t before = client.counters().cache.bytes;
  cluster.node(0).Freeze();
  for (const CachePart& part : {CachePart{world.chunks[0].id}, CachePart{world.chunks[2].id}}) {
    CHECK_FALSE(client.FetchToCache({&part, 1}, absl::Milliseconds(300)).ok());
    absl::Status said;
    bool ended = false;
    const CallId call = client.StartFetchToCache({&part, 1}, absl::Seconds(20), [&](auto report) {
      said = report.status();
      ended = true;
    });
    client.Progress();
    client.Cancel(call);
    client.RunUntil([&] { return ended; });
    CHECK(absl::IsCancelled(said));
  }
  CHECK(client.counters().cache.bytes == before);
  cluster.node(0).Thaw();
}

}  // namespace
}  // namespace latentd::testing
