// `best_effort`: what is there is merged as if there were nothing else, with every query token
// seeing what it would have seen of it, and what is missing is named with its reason.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/cluster/cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/frontend.h"
#include "tests/cluster/load.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kTokens = 100;
constexpr uint32_t kArrived = 40;

using Missing = std::vector<std::pair<ChunkId, absl::StatusCode>>;

Missing Named(const AttendAnswer& told) {
  Missing missing;
  for (const MissingChunk& chunk : told.missing) missing.emplace_back(chunk.id, chunk.reason);
  std::sort(missing.begin(), missing.end());
  return missing;
}

Missing Sorted(Missing missing) {
  std::sort(missing.begin(), missing.end());
  return missing;
}

// Two daemons; on each a whole chunk, one of which only a part has arrived, and one that nobody
// has published.
class World {
 public:
  World() : cluster({.nodes = 2}), frontend(cluster.endpoint()) {
    for (int i = 0; i < 2; ++i) {
      const std::string& node = cluster.node(i).id();
      whole.push_back(Random(node, 100));
      partial.push_back(Random(node, 200));
      absent.push_back(Random(node, 300));
    }
    for (const ChunkData& chunk : whole) REQUIRE(frontend.Publish(chunk) == absl::OkStatus());
    for (const ChunkData& chunk : partial) {
      REQUIRE(frontend.PublishPart(chunk, 0, kArrived) == absl::OkStatus());
    }
  }

  ChunkData Random(const std::string& node, uint64_t salt) {
    return RandomChunk(frontend.IdOn(node, salt), kTokens, 2, RecordFormat::kBf16, random);
  }
  Question Ask(uint32_t tokens, bool causal, std::vector<ExpectedPart> parts) {
    Question question = MakeQuestion(1, tokens, 8, causal, std::move(parts), random);
    question.best_effort = true;
    return question;
  }

  Cluster cluster;
  Frontend frontend;
  std::mt19937_64 random{31};
  std::vector<ChunkData> whole;
  std::vector<ChunkData> partial;
  std::vector<ChunkData> absent;
};

constexpr absl::StatusCode kNotFound = absl::StatusCode::kNotFound;
constexpr absl::StatusCode kOutOfRange = absl::StatusCode::kOutOfRange;
constexpr absl::StatusCode kUnavailable = absl::StatusCode::kUnavailable;
constexpr absl::Duration kTimeout = absl::Seconds(20);

TEST_CASE("best effort merges what is there and names what is missing, wherever it lies") {
  World world;
  const std::vector<Accounting> before = {world.cluster.node(0).Account(),
                                          world.cluster.node(1).Account()};
  const ExpectedPart whole0{&world.whole[0], kTokens};
  const ExpectedPart whole1{&world.whole[1], 77};
  const ExpectedPart arrived{&world.partial[0], kArrived};
  const ExpectedPart beyond{&world.partial[1], kArrived + 1, true};
  const ExpectedPart absent0{&world.absent[0], 50, true};
  const ExpectedPart absent1{&world.absent[1], 3, true};
  const auto missing0 = std::pair(world.absent[0].id, kNotFound);
  const auto missing1 = std::pair(world.absent[1].id, kNotFound);
  const auto missing_beyond = std::pair(world.partial[1].id, kOutOfRange);

  struct Case {
    const char* name;
    uint32_t tokens;
    bool causal;
    std::vector<ExpectedPart> parts;
    Missing missing;
  };
  const std::vector<Case> cases = {
      {"nothing is missing", 2, true, {whole0, whole1, arrived}, {}},
      {"first", 2, false, {absent0, whole0, whole1}, {missing0}},
      {"between", 2, true, {whole0, absent0, beyond, whole1}, {missing0, missing_beyond}},
      // The query tokens are the sequence's last: of the missing end some see none, and so less of
      // what lies before it.
      {"last, and a causal group reaches over it", 6, true, {whole0, whole1, absent1}, {missing1}},
      {"all of one holder", 3, true, {absent0, whole1}, {missing0}},
      {"all", 2, false, {absent0, absent1, beyond}, {missing0, missing1, missing_beyond}},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    const Question question = world.Ask(c.tokens, c.causal, c.parts);
    AttendAnswer told;
    CHECK(world.frontend.AskAndCheck(question, kTimeout, &told) == absl::OkStatus());
    CHECK(Named(told) == Sorted(c.missing));

    Question strict = question;
    strict.best_effort = false;
    const absl::Status status = world.frontend.AskAndCheck(strict);
    INFO(status.ToString());
    CHECK(status.ok() == c.missing.empty());
    if (!status.ok()) CHECK((absl::IsNotFound(status) || absl::IsOutOfRange(status)));
  }
  for (int i = 0; i < 2; ++i) {
    Accounting now;
    Eventually(Scaled(absl::Seconds(5)), [&] {
      now = world.cluster.node(i).Account();
      return now == before[static_cast<size_t>(i)];
    });
    CHECK(now == before[static_cast<size_t>(i)]);
  }
}

TEST_CASE("best effort of which all is missing is empty rows, not an error") {
  World world;
  const Question question = world.Ask(2, true, {{&world.absent[0], 9, true}});
  Partials answer;
  AttendAnswer told;
  REQUIRE(world.frontend.Ask(question, kTimeout, &answer, &told) == absl::OkStatus());
  CHECK(std::ranges::all_of(answer.out, [](float v) { return v == 0; }));
  CHECK(std::ranges::all_of(answer.lse, [](float v) { return v == -INFINITY; }));
  CHECK(told.missing.size() == 1);
}

TEST_CASE("several groups miss what each of them asked for") {
  World world;
  const Question first = world.Ask(2, true, {{&world.whole[0], 60}, {&world.absent[1], 1, true}});
  const Question second = world.Ask(3, false, {{&world.absent[0], 5, true}, {&world.whole[1], 70}});
  const std::vector<VisibleChunk> first_chunks = {{world.whole[0].id, 60}, {world.absent[1].id, 1}};
  const std::vector<VisibleChunk> second_chunks = {{world.absent[0].id, 5},
                                                   {world.whole[1].id, 70}};
  const std::vector<QueryGroup> groups = {{.tokens = 2, .causal = true, .chunks = first_chunks},
                                          {.tokens = 3, .causal = false, .chunks = second_chunks}};
  std::vector<Bf16> rows = first.rows;
  rows.insert(rows.end(), second.rows.begin(), second.rows.end());
  std::vector<float> out(first.answer.out.size() + second.answer.out.size());
  std::vector<float> lse(first.answer.lse.size() + second.answer.lse.size());
  const auto told = world.frontend.client().Attend({.layer = 1,
                                                    .scale = first.scale,
                                                    .heads = first.heads,
                                                    .groups = groups,
                                                    .rows = rows,
                                                    .out_format = OutFormat::kFp32,
                                                    .out = std::as_writable_bytes(std::span(out)),
                                                    .lse = lse,
                                                    .best_effort = true},
                                                   kTimeout);
  REQUIRE(told.status() == absl::OkStatus());
  CHECK(Named(*told) == Sorted({{world.absent[0].id, kNotFound}, {world.absent[1].id, kNotFound}}));
  std::vector<float> expected_out = first.answer.out;
  expected_out.insert(expected_out.end(), second.answer.out.begin(), second.answer.out.end());
  std::vector<float> expected_lse = first.answer.lse;
  expected_lse.insert(expected_lse.end(), second.answer.lse.begin(), second.answer.lse.end());
  CHECK(Compare(out, lse, expected_out, expected_lse, 512).Within(kOutBound, kLseBound));
}

TEST_CASE(
    "best effort does without a holder that is killed or frozen, and with it when it is back") {
  World world;
  const Question whole = world.Ask(3, true, {{&world.whole[0], 90}, {&world.whole[1], 80}});
  const Question half = world.Ask(3, true, {{&world.whole[0], 90}, {&world.whole[1], 80, true}});
  Node& victim = world.cluster.node(1);
  AttendAnswer told;
  REQUIRE(world.frontend.AskAndCheck(whole, kTimeout, &told) == absl::OkStatus());
  CHECK(told.missing.empty());

  victim.Freeze();
  CHECK(world.frontend.AskAndCheck(half, kTimeout, &told) == absl::OkStatus());
  CHECK(Named(told) == Missing{{world.whole[1].id, kUnavailable}});
  victim.Thaw();
  CHECK(Eventually(Scaled(absl::Seconds(20)), [&] {
    return world.frontend.AskAndCheck(whole, kTimeout, &told).ok() && told.missing.empty();
  }));

  victim.Kill();
  CHECK(world.frontend.AskAndCheck(half, kTimeout, &told) == absl::OkStatus());
  CHECK(Named(told) == Missing{{world.whole[1].id, kUnavailable}});
  // Back, and without its cache: missing for another reason.
  victim.Start();
  victim.WaitUntilReady();
  CHECK(Eventually(Scaled(absl::Seconds(20)), [&] {
    CHECK(world.frontend.AskAndCheck(half, kTimeout, &told) == absl::OkStatus());
    return Named(told) == Missing{{world.whole[1].id, kNotFound}};
  }));
}

}  // namespace
}  // namespace latentd::testing
