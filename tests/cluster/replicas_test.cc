// Two holders of every chunk: what is published to the first is on both, either answers, and while
// one is gone the other does.
#include <catch2/catch.hpp>

#include "tests/cluster/cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/frontend.h"
#include "tests/cluster/load.h"
#include "tests/cluster/raw_calls.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kTokens = 130;
constexpr absl::Duration kTimeout = absl::Seconds(4);
// A question may end this much after its time: two cores, several daemons.
constexpr absl::Duration kSlack = absl::Milliseconds(500);

// Three daemons and a chunk on two of them: node-1 first, `other` second.
class World {
 public:
  explicit World(bool metrics = false) : cluster({.nodes = 3, .replicas = 2, .metrics = metrics}) {
    Frontend publisher(cluster.endpoint());
    const auto table = publisher.client().table();
    const ChunkId id = publisher.IdOn("node-1", 40);
    REQUIRE(table->HoldersOf(id.slot()).size() == 2);
    const NodeIndex second = table->HoldersOf(id.slot())[1];
    other_index = table->node(second).id == "node-2" ? 1 : 2;
    std::mt19937_64 random(29);
    chunk = RandomChunk(id, kTokens, 2, RecordFormat::kBf16, random);
    for (uint32_t layer = 0; layer < 2; ++layer) {
      questions.push_back(MakeQuestion(layer, 3, 16, true, {{&chunk, kTokens}}, random));
      questions.push_back(MakeQuestion(layer, 1, 5, false, {{&chunk, 77}}, random));
    }
  }

  Node& primary() { return cluster.node(0); }
  Node& other() { return cluster.node(other_index); }
  Node& bystander() { return cluster.node(3 - other_index); }

  // To the first holder, which passes it on.
  void Publish() {
    RawRequester requester(primary().endpoint());
    REQUIRE(testing::Publish(requester, chunk, WholeOf(chunk))->text() == "");
    REQUIRE(Seal(requester, chunk)->text() == "");
  }
  // Questions that a holder has computed since its start.
  static uint64_t AnsweredBy(Node& node) { return node.Status().lanes(0).attend_requests(); }

  Cluster cluster;
  int other_index = 1;
  ChunkData chunk;
  std::vector<Question> questions;
};

// Right or a typed error, in time.
void CheckHarmless(const Tally& tally) {
  CAPTURE(tally);
  CHECK(tally.wrong == 0);
  CHECK(tally.longest <= kTimeout + Scaled(kSlack));
  for (const auto& [code, count] : tally.errors) {
    CAPTURE(code);
    CHECK((code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kDeadlineExceeded ||
           code == absl::StatusCode::kNotFound));
  }
}

void CheckNoError(const Tally& tally) {
  CAPTURE(tally);
  CHECK(tally.failed() == 0);
  CheckHarmless(tally);
}

TEST_CASE("with two replicas every daemon has the same table of two holders a slot") {
  World world;
  const auto first = world.primary().control().Table();
  REQUIRE(first.ok());
  for (int i = 0; i < world.cluster.size(); ++i) {
    const auto table = world.cluster.node(i).control().Table();
    REQUIRE(table.ok());
    CHECK(table->epoch() == first->epoch());
    REQUIRE(table->ranges_size() == first->ranges_size());
    int same = 0;
    for (int r = 0; r < table->ranges_size(); ++r) {
      const v1::SlotRange& a = table->ranges(r);
      const v1::SlotRange& b = first->ranges(r);
      same += a.first_slot() == b.first_slot() && a.holders_size() == 2 && b.holders_size() == 2 &&
              a.holders(0) == b.holders(0) && a.holders(1) == b.holders(1) &&
              a.holders(0) != a.holders(1);
    }
    CHECK(same == first->ranges_size());
  }
}

TEST_CASE("either holder gives the same partial, and who is no holder refuses by name") {
  World world;
  world.Publish();
  const Question& question = world.questions[0];
  const RawAttend attend{.layer = question.layer,
                         .heads = question.heads,
                         .tokens = question.tokens,
                         .causal = question.causal,
                         .parts = {{world.chunk.id, kTokens}},
                         .rows = question.rows};
  RawRequester first(world.primary().endpoint());
  RawRequester second(world.other().endpoint());
  const uint32_t rows = question.tokens * question.heads;
  const Partials one = PartialsOf(Attend(first, attend), rows, 512);
  const Partials two = PartialsOf(Attend(second, attend), rows, 512);
  CHECK(Compare(one.out, one.lse, question.answer.out, question.answer.lse, 512)
            .Within(kOutBound, kLseBound));
  CHECK(one.out == two.out);
  CHECK(one.lse == two.lse);

  RawRequester third(world.bystander().endpoint());
  const auto refused = Attend(third, attend);
  REQUIRE(refused.ok());
  INFO(refused->text());
  CHECK(refused->code() != wire::Code::kOk);
  CHECK_THAT(refused->text(), Catch::Matchers::Contains(ToString(world.chunk.id)));
}

TEST_CASE("a holder is killed under load: the other answers, and no requester sees an error") {
  World world;
  world.Publish();
  VerifyingLoad load(world.questions, 2, kTimeout, AskThroughClient(world.bystander().endpoint()));
  REQUIRE(load.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  const uint64_t before = World::AnsweredBy(world.other());
  world.primary().Kill();
  CHECK(load.WaitForAnswers(100, Scaled(absl::Seconds(20))));
  CheckNoError(load.Stop());
  CHECK(World::AnsweredBy(world.other()) > before);
}

TEST_CASE("a holder freezes under load: the other answers until it thaws") {
  World world;
  world.Publish();
  VerifyingLoad load(world.questions, 2, kTimeout, AskThroughClient(world.bystander().endpoint()));
  REQUIRE(load.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  world.primary().Freeze();
  CHECK(load.WaitForAnswers(100, Scaled(absl::Seconds(20))));
  world.primary().Thaw();
  // It is asked again, and nobody sees that change either.
  const uint64_t before = World::AnsweredBy(world.primary());
  CHECK(Eventually(Scaled(absl::Seconds(20)),
                   [&] { return World::AnsweredBy(world.primary()) > before + 20; }));
  CheckNoError(load.Stop());
}

TEST_CASE("a holder drains: the other answers until it resumes") {
  World world;
  world.Publish();
  VerifyingLoad load(world.questions, 2, kTimeout, AskThroughClient(world.bystander().endpoint()));
  REQUIRE(load.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  REQUIRE(world.primary().control().Drain() == absl::OkStatus());
  CHECK(load.WaitForAnswers(100, Scaled(absl::Seconds(20))));
  REQUIRE(world.primary().control().Resume() == absl::OkStatus());
  const uint64_t before = World::AnsweredBy(world.primary());
  CHECK(Eventually(Scaled(absl::Seconds(20)),
                   [&] { return World::AnsweredBy(world.primary()) > before + 20; }));
  CheckNoError(load.Stop());
}

TEST_CASE("both holders are killed one after the other: typed errors in time, and all heals") {
  World world;
  world.Publish();
  VerifyingLoad load(world.questions, 2, kTimeout, AskThroughClient(world.bystander().endpoint()));
  REQUIRE(load.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  world.primary().Kill();
  REQUIRE(load.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  world.other().Kill();
  CHECK(Eventually(Scaled(absl::Seconds(10)), [&] { return load.Now().failed() >= 10; }));
  world.primary().Start();
  world.primary().WaitUntilReady();
  world.other().Start();
  world.other().WaitUntilReady();
  world.Publish();
  CHECK(load.WaitForAnswers(50, Scaled(absl::Seconds(20))));
  CheckHarmless(load.Stop());
}

TEST_CASE("a holder restarts without its chunk: right or refused, and all heals when it has it") {
  World world(/*metrics=*/true);
  world.Publish();
  VerifyingLoad load(world.questions, 2, kTimeout, AskThroughClient(world.bystander().endpoint()));
  REQUIRE(load.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  world.primary().Kill();
  world.primary().Start();
  world.primary().WaitUntilReady();
  // Clients have gone back to it.
  const auto asked_again = [&] {
    return SumOfLane(world.primary().Metrics(), "latentd_requests_total", 0, "ATTEND") >= 10;
  };
  CHECK(Eventually(Scaled(absl::Seconds(20)), asked_again));
  world.Publish();
  CHECK(load.WaitForAnswers(50, Scaled(absl::Seconds(20))));
  CheckHarmless(load.Stop());
}

TEST_CASE("what a client published is answered by the second holder while the first is gone") {
  World world;
  Frontend frontend(world.bystander().endpoint());
  REQUIRE(frontend.Publish(world.chunk) == absl::OkStatus());
  world.primary().Kill();
  CHECK(frontend.AskAndCheck(world.questions[0], kTimeout) == absl::OkStatus());

  // Back without the chunk, it sends nobody away: the second has it.
  world.primary().Start();
  world.primary().WaitUntilReady();
  CHECK(frontend.AskAndCheck(world.questions[0], kTimeout) == absl::OkStatus());
  REQUIRE(Eventually(Scaled(absl::Seconds(20)),
                     [&] { return frontend.Publish(world.chunk, kTimeout).ok(); }));
  CHECK(frontend.AskAndCheck(world.questions[0]) == absl::OkStatus());
}

}  // namespace
}  // namespace latentd::testing
