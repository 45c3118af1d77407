// Several lanes in one daemon: each keeps its share of the chunks, and requesters, sessions, status
// and metrics know them apart.
#include <algorithm>
#include <catch2/catch.hpp>

#include "routing/lane_choice.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/frontend.h"
#include "tests/cluster/load.h"
#include "tests/cluster/raw_calls.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;

constexpr uint32_t kTokens = 100;
constexpr uint32_t kPages = 2;  // of a chunk
constexpr int kLanes = 2;
// Of different sizes: a share of the chunks is in proportion.
constexpr uint64_t kCaches[kLanes] = {uint64_t{64} << 20, uint64_t{32} << 20};

ClusterOptions TwoLanes() {
  return {.cache = "64MiB",
          .more_lanes = {"32MiB"},
          .liveness = kPatientLiveness,
          .session = "ttl: 5s",
          .metrics = true};
}

// A daemon with two lanes and three sealed chunks in each.
class World {
 public:
  explicit World(const ClusterOptions& options = TwoLanes())
      : cluster(options), frontend(cluster.endpoint()) {
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int i = 0; i < 3; ++i) {
        chunks[lane].push_back(
            RandomChunk(IdIn(lane, 100 * i), kTokens, 2, RecordFormat::kBf16, random));
        REQUIRE(frontend.Publish(chunks[lane].back()) == absl::OkStatus());
      }
    }
  }

  Node& node() { return cluster.node(0); }
  v1::LaneStatus Lane(int lane) { return node().Status().lanes(lane); }
  // The first id from this salt that falls to the lane.
  ChunkId IdIn(int lane, uint64_t salt) const {
    while (true) {
      const ChunkId id = frontend.IdOn("node-1", salt++);
      if (LaneOfSlot(id.slot(), kCaches) == static_cast<uint32_t>(lane)) return id;
    }
  }

  Cluster cluster;
  Frontend frontend;
  std::mt19937_64 random{37};
  std::vector<ChunkData> chunks[kLanes];
};

TEST_CASE("chunks lie in the lanes that their slots name, and one query over all merges right") {
  World world;
  std::map<std::string, uint32_t> lane_of;
  for (const v1::Chunk& chunk : world.node().Chunks()) lane_of[chunk.id()] = chunk.lane();
  std::vector<ExpectedPart> all;
  for (int i = 0; i < 3; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const ChunkData& chunk = world.chunks[lane][static_cast<size_t>(i)];
      CHECK(lane_of.at(ToString(chunk.id)) == static_cast<uint32_t>(lane));
      all.push_back({&chunk, kTokens - static_cast<uint32_t>(i)});
    }
  }
  AttendAnswer told;
  const Question question = MakeQuestion(1, 4, 16, true, all, world.random);
  CHECK(world.frontend.AskAndCheck(question, absl::Seconds(20), &told) == absl::OkStatus());
  // One message to each lane.
  std::vector<uint32_t> lanes;
  for (const HolderTiming& holder : told.holders) lanes.push_back(holder.lane);
  std::sort(lanes.begin(), lanes.end());
  CHECK(lanes == std::vector<uint32_t>{0, 1});

  // And so with a chunk missing in one of them.
  const ChunkData absent =
      RandomChunk(world.IdIn(1, 5000), 10, 2, RecordFormat::kBf16, world.random);
  all.push_back({&absent, 10, true});
  Question partial = MakeQuestion(0, 2, 8, true, all, world.random);
  partial.best_effort = true;
  CHECK(world.frontend.AskAndCheck(partial, absl::Seconds(20), &told) == absl::OkStatus());
  REQUIRE(told.missing.size() == 1);
  CHECK(told.missing[0].id == absent.id);
  partial.best_effort = false;
  CHECK(absl::IsNotFound(world.frontend.AskAndCheck(partial)));
}

TEST_CASE("records come back whole from either lane, and a lease is the chunk's lane's") {
  World world;
  for (int lane = 0; lane < kLanes; ++lane) {
    const ChunkData& chunk = world.chunks[lane][0];
    std::vector<std::byte> records(chunk.records.size());
    CHECK(world.frontend.client().Fetch({.chunk = chunk.id, .layers = 2, .tokens = kTokens},
                                        records) == absl::OkStatus());
    CHECK(records == chunk.records);
    REQUIRE(world.frontend.client().Pin({&chunk.id, 1}, absl::Minutes(1)) == absl::OkStatus());
    CHECK(world.Lane(lane).chunks_pinned() == 1);
    CHECK(world.Lane(1 - lane).chunks_pinned() == 0);
    REQUIRE(world.frontend.client().Release({&chunk.id, 1}) == absl::OkStatus());
    CHECK(world.Lane(lane).chunks_pinned() == 0);
  }
}

TEST_CASE("one session is one session in all lanes, from its opening to its end") {
  World world;
  // The frontend's own.
  REQUIRE(world.node().Status().sessions() == 1);
  RawRequester zero(world.cluster.endpoint(), {.lane = 0});
  RawRequester one(world.cluster.endpoint(), {.lane = 1});
  CHECK(world.node().Status().sessions() == 3);

  const std::vector<Bf16> rows = RandomRows(8, Geometry{}, world.random);
  const auto ask = [&](RawRequester& requester, int chunks_lane) {
    const auto reply = Attend(requester, {.heads = 8,
                                          .tokens = 1,
                                          .parts = {{world.chunks[chunks_lane][0].id, kTokens}},
                                          .rows = rows});
    REQUIRE(reply.ok());
    return *reply;
  };
  CHECK(ask(zero, 0).code() == wire::Code::kOk);
  CHECK(ask(one, 1).code() == wire::Code::kOk);
  // The other lane's chunk is refused by the name of the lane that has it.
  const RawReply astray = ask(zero, 1);
  CHECK(astray.code() == wire::Code::kFailedPrecondition);
  CHECK_THAT(astray.text(), Contains(ToString(world.chunks[1][0].id)) && Contains("lane 1"));

  // Whoever ends a session ends it in all lanes.
  const v1::OpenResponse& session = one.session();
  REQUIRE(one.control().Close(session.token_hi(), session.token_lo()) == absl::OkStatus());
  CHECK(world.node().Status().sessions() == 2);
  const auto late = Pin(one, world.chunks[1][0].id, 1000);
  INFO(late.status().ToString());
  CHECK((late.ok() ? late->code() == wire::Code::kUnauthenticated
                   : absl::IsUnavailable(late.status()) || absl::IsUnauthenticated(late.status())));
  CHECK(world.Lane(1).chunks_pinned() == 0);
  CHECK(ask(zero, 0).code() == wire::Code::kOk);
}

TEST_CASE("status and metrics tell of each lane what it holds and did") {
  World world;
  const Question to_one =
      MakeQuestion(0, 1, 6, false, {{&world.chunks[1][0], kTokens}}, world.random);
  const Question to_both = MakeQuestion(
      1, 2, 8, true, {{&world.chunks[0][0], kTokens}, {&world.chunks[1][1], 50}}, world.random);
  const auto before = world.node().Metrics();
  for (int i = 0; i < 3; ++i) REQUIRE(world.frontend.AskAndCheck(to_one) == absl::OkStatus());
  REQUIRE(world.frontend.AskAndCheck(to_both) == absl::OkStatus());
  REQUIRE(world.frontend.client().Pin({&world.chunks[0][2].id, 1}, absl::Minutes(1)) ==
          absl::OkStatus());

  const auto metrics = world.node().Metrics();
  const v1::StatusResponse status = world.node().Status();
  REQUIRE(status.lanes_size() == kLanes);
  const uint64_t rows[kLanes] = {16, 3 * 6 + 16};
  const uint64_t requests[kLanes] = {1, 4};
  for (int lane = 0; lane < kLanes; ++lane) {
    INFO("lane " << lane);
    const v1::LaneStatus& told = status.lanes(lane);
    const auto grown = [&](const std::string& family, const std::string& label = "") {
      return SumOfLane(metrics, family, lane, label) - SumOfLane(before, family, lane, label);
    };
    CHECK(grown("latentd_attend_rows_total") == rows[lane]);
    CHECK(grown("latentd_requests_total", "opcode=\"ATTEND\"") == requests[lane]);
    CHECK(grown("latentd_replies_total", "code=\"OK\"") == requests[lane] + (lane == 0 ? 1 : 0));
    CHECK(told.attend_rows() == SumOfLane(metrics, "latentd_attend_rows_total", lane));

    CHECK(told.index() == static_cast<uint32_t>(lane));
    CHECK(told.cache_bytes() == kCaches[lane]);
    CHECK(told.chunks_sealed() == 3);
    CHECK(told.chunks_open() == 0);
    CHECK(told.chunks_pinned() == (lane == 0 ? 1 : 0));
    CHECK(told.pages_total() - told.pages_free() == 3 * kPages);
    CHECK(SumOfLane(metrics, "latentd_store_pages", lane) == told.pages_total());
    CHECK(SumOfLane(metrics, "latentd_store_free_pages", lane) == told.pages_free());
    CHECK(SumOfLane(metrics, "latentd_store_chunks", lane, "state=\"sealed\"") == 3);
    CHECK(SumOfLane(metrics, "latentd_store_pinned_chunks", lane) == told.chunks_pinned());
    CHECK(SumOfLane(metrics, "latentd_requests_in_flight", lane) == 0);
    CHECK(SumOfLane(metrics, "latentd_lane_last_turn_age_seconds", lane) < 5);
  }
  CHECK(metrics.at("latentd_sessions") == 1);
}

TEST_CASE("a lane that is full refuses, and the other one takes on") {
  ClusterOptions options = TwoLanes();
  options.more_lanes = {"4MiB"};
  options.limits = "open_bytes_per_session: 64MiB";
  options.metrics = false;
  Cluster cluster(options);
  Frontend frontend(cluster.endpoint());
  const uint64_t caches[kLanes] = {uint64_t{64} << 20, uint64_t{4} << 20};
  const auto publish = [&](uint32_t lane, uint64_t* salt) {
    std::mt19937_64 random(41);
    ChunkId id = frontend.IdOn("node-1", (*salt)++);
    while (LaneOfSlot(id.slot(), caches) != lane) id = frontend.IdOn("node-1", (*salt)++);
    // Not sealed: nothing that could be evicted.
    return frontend.PublishPart(RandomChunk(id, kTokens, 2, RecordFormat::kBf16, random), 0,
                                kTokens);
  };
  uint64_t salt = 0;
  absl::Status full;
  for (int i = 0; i < 30 && full.ok(); ++i) full = publish(1, &salt);
  INFO(full.ToString());
  CHECK(absl::IsResourceExhausted(full));
  CHECK(publish(0, &salt) == absl::OkStatus());
  const v1::StatusResponse status = cluster.node(0).Status();
  CHECK(status.lanes(1).pages_free() < kPages);
  CHECK(status.lanes(0).pages_total() - status.lanes(0).pages_free() == kPages);
}

TEST_CASE("a client that is killed gives back what it held in every lane") {
  World world([] {
    ClusterOptions options = TwoLanes();
    options.metrics = false;
    return options;
  }());
  const v1::StatusResponse before = world.node().Status();
  Process client(
      {Runfile("tests/cluster/client_process"), "hold", world.cluster.endpoint(), "node-1"},
      FreshFolder("client") + "/client");
  REQUIRE(Eventually(Scaled(absl::Seconds(20)), [&] {
    const v1::StatusResponse now = world.node().Status();
    return now.lanes(0).chunks_open() > 0 && now.lanes(1).chunks_open() > 0;
  }));
  client.Kill();
  const auto given_back = [&] {
    const v1::StatusResponse now = world.node().Status();
    if (now.sessions() != before.sessions()) return false;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (now.lanes(lane).pages_free() != before.lanes(lane).pages_free()) return false;
      if (now.lanes(lane).chunks_open() != 0) return false;
    }
    return true;
  };
  CHECK(Eventually(Scaled(absl::Seconds(10)), given_back));
}

}  // namespace
}  // namespace latentd::testing
