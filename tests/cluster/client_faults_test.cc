// Clients die, freeze, flood, come and go: what they held comes back, and others notice nothing.
#include <signal.h>

#include <catch2/catch.hpp>

#include <optional>
#include <span>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/frontend.h"
#include "tests/cluster/load.h"
#include "tests/cluster/raw_calls.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kTokens = 100;

// A frontend in a process of its own.
class ClientProcess {
 public:
  ClientProcess(const std::string& mode, Node& node)
      : process_({Runfile("tests/cluster/client_process"), mode, node.endpoint(), node.id()},
                 FreshFolder("client") + "/client") {}

  // Lines that start with this word, so far.
  int Count(const std::string& word) const {
    const std::string out = process_.Out();
    int count = 0;
    for (size_t at = out.find(word); at != std::string::npos; at = out.find(word, at + 1)) {
      if (at == 0 || out[at - 1] == '\n') ++count;
    }
    return count;
  }
  bool WaitFor(const std::string& word, int more, absl::Duration limit = absl::Seconds(20)) const {
    const int before = Count(word);
    return Eventually(Scaled(limit), [&] { return Count(word) >= before + more; });
  }
  Process& process() { return process_; }
  std::string Out() const { return process_.Out(); }

 private:
  Process process_;
};

// A daemon with a sealed chunk and a load on it that must stay right whatever other clients do.
class World {
 public:
  explicit World(ClusterOptions options = {.session = "ttl: 5s"}) : cluster(std::move(options)) {
    std::mt19937_64 random(23);
    {
      Frontend publisher(cluster.endpoint());
      chunk = RandomChunk(publisher.IdOn("node-1", 1), kTokens, 2, RecordFormat::kBf16, random);
      REQUIRE(publisher.Publish(chunk) == absl::OkStatus());
    }
    REQUIRE(Eventually(Scaled(absl::Seconds(10)), [&] { return node().Account().sessions == 0; }));
    questions.push_back(MakeQuestion(0, 2, 8, true, {{&chunk, kTokens}}, random));
    questions.push_back(MakeQuestion(1, 1, 3, false, {{&chunk, 50}}, random));
  }

  Node& node() { return cluster.node(0); }
  void WaitForAccounting(const Accounting& expected, absl::Duration limit) {
    Accounting now;
    Eventually(Scaled(limit), [&] {
      now = node().Account();
      return now == expected;
    });
    CHECK(now == expected);
  }

  Cluster cluster;
  ChunkData chunk;
  std::vector<Question> questions;
};

// With the chunk that a client in mode "attend" has sealed.
Accounting WithSealedChunk(Accounting accounting) {
  accounting.pages_free -= 4;
  accounting.chunks_sealed += 1;
  return accounting;
}

TEST_CASE("a client killed in the middle of publishing leaves no page behind") {
  World world;
  const Accounting before = world.node().Account();
  ClientProcess client("publish", world.node());
  REQUIRE(client.WaitFor("published", 100));
  CHECK(world.node().Account().chunks_open > 0);
  client.process().Kill();
  world.WaitForAccounting(before, absl::Seconds(10));
}

TEST_CASE("a client killed with a big publish on its way leaves no page behind") {
  World world;
  const Accounting before = world.node().Account();
  // Killed as early as its first megabytes arrive, and after some rounds.
  for (const int rounds : {0, 0, 1, 5}) {
    INFO(rounds);
    ClientProcess client("stream", world.node());
    REQUIRE(client.WaitFor("published", rounds));
    REQUIRE(Eventually(Scaled(absl::Seconds(20)),
                       [&] { return world.node().Account().chunks_open > 0; }));
    client.process().Kill();
    world.WaitForAccounting(before, absl::Seconds(10));
  }
}

TEST_CASE("a client killed in the middle of attending leaves no lease and no request behind") {
  World world({.session = "ttl: 5s", .metrics = true});
  const Accounting before = world.node().Account();
  ClientProcess client("attend", world.node());
  REQUIRE(client.WaitFor("answered", 3));
  CHECK(world.node().Account().chunks_pinned >= 1);
  client.process().Kill();
  // Its sealed chunk stays until somebody needs the room; its lease, requests and session go.
  world.WaitForAccounting(WithSealedChunk(before), absl::Seconds(10));
  const auto metrics = world.node().Metrics();
  CHECK(SumOfLane(metrics, "latentd_store_free_pages", 0) == WithSealedChunk(before).pages_free);
  CHECK(SumOfLane(metrics, "latentd_store_chunks", 0, "state=\"open\"") == 0);
  CHECK(SumOfLane(metrics, "latentd_store_pinned_chunks", 0) == 0);
  CHECK(SumOfLane(metrics, "latentd_requests_in_flight", 0) == 0);
  CHECK(SumOfLane(metrics, "latentd_in_flight_bytes", 0) == 0);
}

TEST_CASE("a frozen client loses what it held with its session, and finds its way back") {
  World world({.session = "ttl: 2s"});
  const Accounting before = world.node().Account();
  for (const char* mode : {"publish", "stream"}) {
    INFO(mode);
    ClientProcess client(mode, world.node());
    REQUIRE(client.WaitFor("published", 5));
    client.process().Signal(SIGSTOP);
    world.WaitForAccounting(before, absl::Seconds(15));
    client.process().Signal(SIGCONT);
    CHECK(client.WaitFor("published", 5));
    CHECK(client.process().Running());
    client.process().Kill();
    world.WaitForAccounting(before, absl::Seconds(10));
  }
}

TEST_CASE("a client frozen in the middle of attending loses its lease, and is answered again") {
  World world({.session = "ttl: 2s"});
  const Accounting before = world.node().Account();
  ClientProcess client("attend", world.node());
  REQUIRE(client.WaitFor("answered", 3));
  client.process().Signal(SIGSTOP);
  world.WaitForAccounting(WithSealedChunk(before), absl::Seconds(15));
  client.process().Signal(SIGCONT);
  CHECK(client.WaitFor("answered", 3));
  client.process().Kill();
  world.WaitForAccounting(WithSealedChunk(before), absl::Seconds(10));
}

// Its renewals go on by themselves; nobody turns the rest of it.
TEST_CASE("a client that does not turn its library keeps its session and what it holds") {
  World world({.liveness = "ping_ms: 100, dead_ms: 400", .session = "ttl: 2s"});
  std::mt19937_64 random(29);
  Frontend frontend(world.cluster.endpoint());
  const ChunkData chunk =
      RandomChunk(frontend.IdOn("node-1", 2), kTokens, 2, RecordFormat::kBf16, random);
  REQUIRE(frontend.PublishPart(chunk, 0, 50) == absl::OkStatus());
  REQUIRE(frontend.client().Pin({&world.chunk.id, 1}, absl::Minutes(1)) == absl::OkStatus());
  REQUIRE(
      Eventually(Scaled(absl::Seconds(5)), [&] { return world.node().Account().sessions == 1; }));
  const Accounting held = world.node().Account();
  const absl::Time until = absl::Now() + absl::Seconds(3);
  while (absl::Now() < until) {
    REQUIRE(world.node().Account() == held);
    absl::SleepFor(absl::Milliseconds(50));
  }
  CHECK(frontend.PublishPart(chunk, 50, 10) == absl::OkStatus());

  // Now with an answer on its way that it does not take: that one is lost.
  const Question big = MakeQuestion(1, 8, 128, true, {{&world.chunk, kTokens}}, random);
  Partials answer = big.answer;
  const VisibleChunk visible{world.chunk.id, kTokens};
  const QueryGroup group{.tokens = big.tokens, .causal = big.causal, .chunks = {&visible, 1}};
  std::optional<absl::Status> ended;
  const auto start = [&] {
    ended.reset();
    frontend.client().StartAttend({.layer = big.layer,
                                   .scale = big.scale,
                                   .heads = big.heads,
                                   .groups = {&group, 1},
                                   .rows = big.rows,
                                   .out_format = OutFormat::kFp32,
                                   .out = std::as_writable_bytes(std::span(answer.out)),
                                   .lse = answer.lse},
                                  Scaled(absl::Seconds(20)),
                                  [&](const auto& result) { ended = result.status(); });
  };
  start();
  REQUIRE(Eventually(Scaled(absl::Seconds(20)), [&] {
    if (world.node().Account().requests_in_flight > 0) return true;
    frontend.client().Progress();
    if (ended.has_value()) start();
    return false;
  }));
  CHECK(Eventually(Scaled(absl::Seconds(10)),
                   [&] { return world.node().Account().requests_in_flight == 0; }));
  frontend.client().RunUntil([&] { return ended.has_value(); });
  CHECK(absl::IsUnavailable(*ended));
  CHECK(frontend.PublishPart(chunk, 60, kTokens - 60) == absl::OkStatus());
  CHECK(frontend.Seal(chunk) == absl::OkStatus());
  const Accounting now = world.node().Account();
  CHECK(now.chunks_pinned == held.chunks_pinned);
  CHECK(now.sessions == 1);
}

TEST_CASE("a client killed with big answers on their way takes nobody with it") {
  World world;
  VerifyingLoad load(world.questions, 1, absl::Seconds(5),
                     AskThroughClient(world.cluster.endpoint()));
  REQUIRE(load.WaitForAnswers(5, Scaled(absl::Seconds(20))));
  for (int i = 0; i < 3; ++i) {
    ClientProcess client("attend", world.node());
    REQUIRE(client.WaitFor("answered", 2));
    client.process().Kill();
  }
  CHECK(load.WaitForAnswers(20, Scaled(absl::Seconds(20))));
  const Tally tally = load.Stop();
  CAPTURE(tally);
  CHECK(tally.wrong == 0);
  CHECK(tally.failed() == 0);
  CHECK(world.node().process().Running());
}

TEST_CASE("clients that come and go leave no descriptor, thread or session behind") {
  World world;
  // What the first visitors make the daemon allocate for good.
  {
    ClientProcess client("visit", world.node());
    REQUIRE(client.WaitFor("visited", 10));
  }
  Eventually(Scaled(absl::Seconds(10)), [&] { return world.node().Account().sessions == 0; });
  const Accounting before = world.node().Account();
  const ProcessUse use_before = world.node().process().Use();
  {
    ClientProcess one("visit", world.node());
    ClientProcess other("visit", world.node());
    REQUIRE(one.WaitFor("visited", 40));
    REQUIRE(other.WaitFor("visited", 40));
    CHECK(one.Count("error") == 0);
    CHECK(other.Count("error") == 0);
  }
  world.WaitForAccounting(before, absl::Seconds(10));
  ProcessUse use;
  Eventually(Scaled(absl::Seconds(10)), [&] {
    use = world.node().process().Use();
    return use.fds <= use_before.fds + 4;
  });
  CHECK(use.fds <= use_before.fds + 4);
  // gRPC's pools grow up to a size of their own; a thread for each visitor would be 80.
  CHECK(use.threads <= use_before.threads + 8);
  CHECK(use.rss_bytes < use_before.rss_bytes + (16 << 20) * (BuiltWithSanitizer() ? 8 : 1));
}

TEST_CASE("a flood of one session is bounded, and another session is answered meanwhile") {
  World world({.limits = "inflight_per_session: 4", .liveness = kPatientLiveness});
  VerifyingLoad load(world.questions, 1, absl::Seconds(10),
                     AskThroughClient(world.cluster.endpoint()));
  REQUIRE(load.WaitForAnswers(5, Scaled(absl::Seconds(20))));
  load.Reset();

  RawRequester flooder(world.cluster.endpoint(), {.name = "flooder"});
  const std::vector<Bf16>& rows = world.questions[0].rows;
  // Bursts, because a daemon keeps at most 1024 refusals for a session that does not read them.
  constexpr uint64_t kBursts = 4;
  constexpr uint64_t kBurst = 500;
  uint64_t answered = 0;
  uint64_t refused = 0;
  for (uint64_t burst = 0; burst < kBursts; ++burst) {
    std::vector<uint64_t> ids;
    for (uint64_t i = 0; i < kBurst; ++i) {
      ids.push_back(PostAttend(
          flooder, {.heads = 8, .tokens = 2, .parts = {{world.chunk.id, kTokens}}, .rows = rows}));
    }
    for (const uint64_t id : ids) {
      const auto reply = flooder.Await(id, Scaled(absl::Seconds(20)));
      REQUIRE(reply.ok());
      answered += reply->code() == wire::Code::kOk;
      refused += reply->code() == wire::Code::kResourceExhausted;
    }
  }
  CHECK(answered + refused == kBursts * kBurst);
  CHECK(answered > 0);
  CHECK(refused > 0);
  CHECK(load.WaitForAnswers(10, Scaled(absl::Seconds(20))));
  const Tally tally = load.Stop();
  CAPTURE(tally);
  CHECK(tally.wrong == 0);
  CHECK(tally.failed() == 0);
}

TEST_CASE("more sessions than the limit are refused by name") {
  World world({.limits = "sessions: 3", .liveness = kPatientLiveness});
  Eventually(Scaled(absl::Seconds(5)), [&] { return world.node().Account().sessions == 0; });
  RawRequester one(world.cluster.endpoint());
  RawRequester two(world.cluster.endpoint());
  RawRequester three(world.cluster.endpoint());
  v1::OpenRequest request = {};
  request.set_worker_address("nowhere");
  request.set_protocol_version(wire::kVersion);
  const auto refused = one.control().Open(request);
  CHECK(refused.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK_THAT(std::string(refused.status().message()), Catch::Matchers::Contains("3"));
}

TEST_CASE("a session that is not renewed ends") {
  World world({.liveness = kPatientLiveness, .session = "ttl: 1s"});
  RawRequester requester(world.cluster.endpoint());
  REQUIRE(Pin(requester, world.chunk.id, 60'000)->text() == "");
  CHECK(world.node().Account().chunks_pinned == 1);
  CHECK(Eventually(Scaled(absl::Seconds(5)), [&] {
    const Accounting now = world.node().Account();
    return now.sessions == 0 && now.chunks_pinned == 0;
  }));
  // The daemon has closed its side: the request is refused, or the connection breaks under it.
  const auto late = Pin(requester, world.chunk.id, 60'000);
  INFO(late.status().ToString());
  CHECK((late.ok() ? late->code() == wire::Code::kUnauthenticated
                   : absl::IsUnavailable(late.status())));
}

TEST_CASE("a second SIGTERM ends a daemon that waits for a client that does not read") {
  World world({.liveness = kPatientLiveness, .drain = "timeout: 60s"});
  const uint32_t tokens = 16;
  std::mt19937_64 random(5);
  const std::vector<Bf16> rows = RandomRows(uint64_t{tokens} * 128, Geometry{}, random);
  RawRequester requester(world.cluster.endpoint());
  for (int i = 0; i < 8; ++i) {
    PostAttend(requester,
               {.heads = 128, .tokens = tokens, .parts = {{world.chunk.id, kTokens}}, .rows = rows},
               [](wire::RequestHeader& header) { header.deadline_us = 120'000'000; });
  }
  // From here on it does not turn: answers of megabytes wait for it.
  requester.Flush(Scaled(absl::Seconds(10)));
  REQUIRE(world.node().Account().requests_in_flight > 0);
  world.node().Terminate();
  REQUIRE(Eventually(Scaled(absl::Seconds(10)),
                     [&] { return absl::StrContains(world.node().Log(), "SIGTERM"); }));
  world.node().Terminate();
  const auto end = world.node().process().WaitForEnd(Scaled(absl::Seconds(5)));
  REQUIRE(end.has_value());
  CHECK(end->exit_code == 1);
}

}  // namespace
}  // namespace latentd::testing
