#include "client/client.h"

#include <poll.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "absl/time/clock.h"
#include "catch2/catch.hpp"
#include "client/testing/fake_daemon.h"
#include "kernels/bf16.h"
#include "transport/errors.h"

namespace latentd {
namespace {

using Catch::Matchers::Contains;
using testing::AnswerAttendWith;
using testing::FakeAnswer;
using testing::FakeDaemon;
using testing::MakeTable;
using wire::Opcode;

constexpr Geometry kGeometry = {.latent_width = 8, .rope_width = 8};
constexpr absl::Duration kLong = absl::Seconds(20);
// In slots 0 and 32768: the first and the second half of a table.
constexpr ChunkId kFirst = {.hi = 1, .lo = 1};
constexpr ChunkId kSecond = {.hi = uint64_t{1} << 63, .lo = 2};

ClientOptions Options(const FakeDaemon& daemon) {
  return {.endpoints = {daemon.address()},
          .client_name = "test",
          .transports = {"tcp"},
          .ping_after = absl::Milliseconds(50),
          .dead_after = absl::Milliseconds(250)};
}

std::unique_ptr<Client> ConnectTo(const FakeDaemon& daemon) {
  auto client = Client::Connect(Options(daemon));
  INFO(client.status().ToString());
  REQUIRE(client.ok());
  return *std::move(client);
}

// One query token of two heads over 10 tokens of each chunk.
struct Query {
  explicit Query(std::vector<ChunkId> ids, bool tolerate = false) : best_effort(tolerate) {
    for (const ChunkId& id : ids) chunks.push_back({id, 10});
    group = {.tokens = 1, .chunks = chunks};
  }
  AttendQuery args() {
    return {.layer = 0,
            .scale = 1,
            .heads = 2,
            .groups = {&group, 1},
            .rows = rows,
            .out = out,
            .lse = lse,
            .best_effort = best_effort};
  }
  float out_value() const {
    Bf16 bits;
    std::memcpy(&bits, out.data(), sizeof(bits));
    return Bf16ToFloat(bits);
  }

  bool best_effort;
  std::vector<VisibleChunk> chunks;
  QueryGroup group;
  std::vector<Bf16> rows = std::vector<Bf16>(2 * kGeometry.row_width());
  std::vector<std::byte> out = std::vector<std::byte>(2 * kGeometry.latent_width * sizeof(Bf16));
  std::vector<float> lse = std::vector<float>(2, 77);
};

// Two daemons; the first holds the first half of all slots, the second the second half.
struct Pair {
  Pair() { Place(1, {{0}, {1}}); }
  void Place(uint64_t epoch, const std::vector<std::vector<NodeIndex>>& holders) {
    const auto table =
        MakeTable(epoch, {{"node-a", a.address()}, {"node-b", b.address()}}, holders);
    a.SetTable(table);
    b.SetTable(table);
  }
  FakeDaemon a{{.node = "node-a"}};
  FakeDaemon b{{.node = "node-b"}};
};

TEST_CASE("a client learns layout and table from whoever it connects to") {
  Pair pair;
  const auto client = ConnectTo(pair.b);
  CHECK(client->layout() == FakeDaemon::TestLayout());
  CHECK(client->table()->nodes().size() == 2);
}

TEST_CASE("endpoints are tried in turn and the error names them all") {
  FakeDaemon daemon;
  ClientOptions options = Options(daemon);
  options.endpoints.insert(options.endpoints.begin(), "127.0.0.1:1");
  CHECK(Client::Connect(options).ok());
  options.endpoints = {"127.0.0.1:1", "127.0.0.1:2"};
  const auto nobody = Client::Connect(options);
  CHECK(absl::IsUnavailable(nobody.status()));
  CHECK_THAT(std::string(nobody.status().message()),
             Contains("127.0.0.1:1") && Contains("127.0.0.1:2"));
}

TEST_CASE("a session is closed when its client goes") {
  FakeDaemon daemon;
  { const auto client = ConnectTo(daemon); }
  CHECK(daemon.sessions_closed() == 1);
}

TEST_CASE("a query goes once to each holder and the answers are merged") {
  Pair pair;
  pair.a.SetScript(AnswerAttendWith(1));
  pair.b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectTo(pair.a);
  Query query({kFirst, kSecond, {.hi = 2, .lo = 5}});
  const auto answer = client->Attend(query.args(), kLong);
  INFO(answer.status().ToString());
  REQUIRE(answer.ok());
  CHECK(query.out_value() == 2);
  CHECK(query.lse[0] == Approx(std::log(2.0)));
  CHECK(answer->holders.size() == 2);
  CHECK(answer->bytes_sent > 2 * query.rows.size() * sizeof(Bf16));
  CHECK(pair.a.requests(Opcode::kAttend) == 1);
  CHECK(pair.b.requests(Opcode::kAttend) == 1);
}

TEST_CASE("a query that sees nothing is answered without asking anybody") {
  FakeDaemon daemon;
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  query.chunks[0].visible_tokens = 0;
  REQUIRE(client->Attend(query.args(), kLong).ok());
  CHECK(std::isinf(query.lse[0]));
  CHECK(query.out_value() == 0);
  CHECK(daemon.requests(Opcode::kAttend) == 0);
}

TEST_CASE("arguments that cannot be right are refused before anything is sent") {
  FakeDaemon daemon;
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  AttendQuery args = query.args();
  args.heads = 0;
  CHECK(absl::IsInvalidArgument(client->Attend(args, kLong).status()));
  args = query.args();
  args.rows = args.rows.subspan(1);
  CHECK(absl::IsInvalidArgument(client->Attend(args, kLong).status()));
  args = query.args();
  args.layer = 2;
  CHECK(absl::IsOutOfRange(client->Attend(args, kLong).status()));
  const std::vector<std::byte> records(32);
  CHECK(absl::IsInvalidArgument(
      client->Publish({.chunk = kFirst, .layers = 2, .tokens = 1}, records, kLong)));
  CHECK(absl::IsOutOfRange(
      client->Publish({.chunk = kFirst, .layers = 3, .tokens = 1}, records, kLong)));
  CHECK(absl::IsInvalidArgument(client->Release({}, kLong)));
}

TEST_CASE("a stale table is refreshed and the query follows the chunk") {
  Pair pair;
  const auto client = ConnectTo(pair.a);
  pair.a.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = WrongEpochError("stale"), .epoch = 2};
  });
  pair.b.SetScript(AnswerAttendWith(3));
  pair.Place(2, {{1}, {1}});
  Query query({kFirst});
  const auto answer = client->Attend(query.args(), kLong);
  INFO(answer.status().ToString());
  REQUIRE(answer.ok());
  CHECK(answer->holders[0].node == "node-b");
  CHECK(answer->holders[0].retried);
  CHECK(client->table()->epoch() == Epoch{2});
  CHECK(pair.a.requests(Opcode::kAttend) == 1);
}

TEST_CASE("a holder that never agrees about the table is asked twice at most") {
  FakeDaemon daemon;
  daemon.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = WrongEpochError("behind"), .epoch = 0};
  });
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  CHECK(IsWrongEpoch(client->Attend(query.args(), kLong).status()));
  CHECK(daemon.requests(Opcode::kAttend) == 2);
}

TEST_CASE("a daemon that restarted is given a new session") {
  FakeDaemon daemon;
  daemon.SetScript(AnswerAttendWith(1));
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  daemon.ForgetSessions();
  // The connection may break before the token is refused: then the first call says so.
  absl::Status status = client->Attend(query.args(), kLong).status();
  if (absl::IsUnavailable(status)) status = client->Attend(query.args(), kLong).status();
  CHECK(status == absl::OkStatus());
  CHECK(daemon.sessions_opened() == 2);
}

TEST_CASE("a cache that is gone is NOT_FOUND") {
  FakeDaemon daemon;
  const auto client = ConnectTo(daemon);
  daemon.SetScript(
      [](const ParsedRequest&) { return FakeAnswer{.status = WrongGenerationError("new life")}; });
  Query query({kFirst});
  CHECK(absl::IsNotFound(client->Attend(query.args(), kLong).status()));
  CHECK(daemon.requests(Opcode::kAttend) == 1);
  daemon.SetScript(AnswerAttendWith(1));
  CHECK(client->Attend(query.args(), kLong).ok());
  CHECK(daemon.sessions_opened() == 2);
}

TEST_CASE("a hung holder fails its calls long before their deadline") {
  FakeDaemon daemon;
  daemon.SetScript(AnswerAttendWith(1));
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  daemon.Freeze(true);
  const absl::Time start = absl::Now();
  const absl::Status status = client->Attend(query.args(), kLong).status();
  CHECK(absl::IsUnavailable(status));
  CHECK_THAT(std::string(status.message()), Contains("node-a"));
  CHECK(absl::Now() - start < absl::Seconds(5));
  daemon.Freeze(false);
  absl::Status again;
  for (int i = 0; i < 20; ++i) {
    again = client->Attend(query.args(), kLong).status();
    if (again.ok()) break;
    absl::SleepFor(absl::Milliseconds(50));
  }
  CHECK(again == absl::OkStatus());
}

TEST_CASE("a call ends at its deadline and its late answer is dropped") {
  FakeDaemon daemon;
  daemon.SetScript(AnswerAttendWith(1));
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  daemon.Hold(true);
  query.lse[0] = 77;
  const absl::Time start = absl::Now();
  CHECK(absl::IsDeadlineExceeded(client->Attend(query.args(), absl::Milliseconds(100)).status()));
  CHECK(absl::Now() - start >= absl::Milliseconds(100));
  CHECK(absl::Now() - start < absl::Seconds(2));
  daemon.Release();
  const absl::Time give_up = absl::Now() + absl::Seconds(5);
  client->RunUntil([&] {
    return client->counters().late_answers > 0 || absl::Now() > give_up ||
           (client->Progress(), false);
  });
  CHECK(client->counters().late_answers == 1);
  CHECK(query.lse[0] == 77);
}

TEST_CASE("another holder is asked when the first is gone") {
  Pair pair;
  pair.Place(1, {{0, 1}, {1, 0}});
  pair.b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectTo(pair.a);
  pair.a.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = absl::UnavailableError("draining")};
  });
  Query query({kFirst, kSecond});
  const auto answer = client->Attend(query.args(), kLong);
  INFO(answer.status().ToString());
  REQUIRE(answer.ok());
  // Two requests, each over its own chunk: nothing is merged twice.
  CHECK(answer->holders.size() == 2);
  CHECK(query.lse[0] == Approx(std::log(2.0)));
  CHECK(pair.b.requests(Opcode::kAttend) == 2);
}

TEST_CASE("without another holder a holder that is gone is UNAVAILABLE") {
  Pair pair;
  pair.a.SetScript(AnswerAttendWith(1));
  pair.b.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = absl::UnavailableError("draining")};
  });
  const auto client = ConnectTo(pair.a);
  Query query({kFirst, kSecond});
  const absl::Status status = client->Attend(query.args(), kLong).status();
  CHECK(absl::IsUnavailable(status));
  CHECK_THAT(std::string(status.message()), Contains("node-b") && Contains("draining"));
}

TEST_CASE("best effort does without holders that are gone, and names the chunks") {
  Pair pair;
  pair.a.SetScript(AnswerAttendWith(1));
  pair.b.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = absl::UnavailableError("draining")};
  });
  const auto client = ConnectTo(pair.a);
  Query query({kFirst, kSecond}, /*tolerate=*/true);
  const auto answer = client->Attend(query.args(), kLong);
  REQUIRE(answer.ok());
  CHECK(query.out_value() == 1);
  REQUIRE(answer->missing.size() == 1);
  CHECK(answer->missing[0].id == kSecond);
  CHECK(answer->missing[0].reason == absl::StatusCode::kUnavailable);
}

TEST_CASE("what a holder lists as missing is told") {
  FakeDaemon daemon;
  daemon.SetScript([](const ParsedRequest& request) {
    FakeAnswer answer = AnswerAttendWith(1)(request);
    answer.missing = {{.chunk_hi = kFirst.hi,
                       .chunk_lo = kFirst.lo,
                       .code = static_cast<uint16_t>(wire::Code::kNotFound)}};
    return answer;
  });
  const auto client = ConnectTo(daemon);
  Query tolerant({kFirst}, /*tolerate=*/true);
  const auto answer = client->Attend(tolerant.args(), kLong);
  REQUIRE(answer.ok());
  REQUIRE(answer->missing.size() == 1);
  CHECK(answer->missing[0].reason == absl::StatusCode::kNotFound);
  // Not asked for: not taken for an answer.
  Query strict({kFirst});
  CHECK(absl::IsInternal(client->Attend(strict.args(), kLong).status()));
}

TEST_CASE("a refusal comes with its hint") {
  FakeDaemon daemon;
  daemon.SetScript([](const ParsedRequest&) {
    return FakeAnswer{
        .status = WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(7))};
  });
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  const absl::Status status = client->Attend(query.args(), kLong).status();
  CHECK(absl::IsResourceExhausted(status));
  CHECK(RetryAfter(status) == absl::Milliseconds(7));
}

TEST_CASE("an answer that holds no log-sum-exp is an error") {
  FakeDaemon daemon;
  daemon.SetScript([](const ParsedRequest& request) {
    FakeAnswer answer = AnswerAttendWith(1)(request);
    std::fill(answer.payload.begin(), answer.payload.end(), std::byte{0xff});
    return answer;
  });
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  CHECK(absl::IsInternal(client->Attend(query.args(), kLong).status()));
}

TEST_CASE("requests wait their turn instead of being refused") {
  FakeDaemon daemon({.inflight_requests = 2});
  daemon.SetScript(AnswerAttendWith(1));
  const auto client = ConnectTo(daemon);
  std::vector<std::unique_ptr<Query>> queries;
  int answered = 0;
  for (int i = 0; i < 20; ++i) {
    queries.push_back(std::make_unique<Query>(std::vector<ChunkId>{kFirst}));
    client->StartAttend(queries.back()->args(), kLong,
                        [&](const absl::StatusOr<AttendAnswer>& answer) {
                          CHECK(answer.ok());
                          ++answered;
                        });
  }
  client->RunUntil([&] { return answered == 20; });
  CHECK(daemon.requests(Opcode::kAttend) == 20);
  CHECK(daemon.most_at_once() <= 2);
}

TEST_CASE("a foreign event loop can drive it") {
  FakeDaemon daemon;
  daemon.SetScript(AnswerAttendWith(1));
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  bool done = false;
  client->StartAttend(query.args(), kLong, [&](const absl::StatusOr<AttendAnswer>& answer) {
    CHECK(answer.ok());
    done = true;
  });
  const absl::Time give_up = absl::Now() + absl::Seconds(10);
  while (!done && absl::Now() < give_up) {
    if (client->Arm()) {
      pollfd entry = {.fd = client->event_fd(), .events = POLLIN, .revents = 0};
      REQUIRE(poll(&entry, 1, 5000) == 1);
    }
    client->Progress();
  }
  CHECK(done);
}

TEST_CASE("a deadline wakes a foreign event loop") {
  FakeDaemon daemon;
  daemon.Hold(true);
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  absl::Status status;
  client->StartAttend(
      query.args(), absl::Milliseconds(200),
      [&](const absl::StatusOr<AttendAnswer>& answer) { status = answer.status(); });
  const absl::Time give_up = absl::Now() + absl::Seconds(10);
  while (status.ok() && absl::Now() < give_up) {
    if (client->Arm()) {
      pollfd entry = {.fd = client->event_fd(), .events = POLLIN, .revents = 0};
      REQUIRE(poll(&entry, 1, 5000) == 1);
    }
    client->Progress();
  }
  CHECK(absl::IsDeadlineExceeded(status));
}

TEST_CASE("a call that is cancelled ends, and so do those of a client that goes") {
  FakeDaemon daemon;
  daemon.Hold(true);
  auto client = ConnectTo(daemon);
  Query first({kFirst});
  Query second({kFirst});
  std::vector<absl::Status> ends;
  const auto end = [&](const absl::StatusOr<AttendAnswer>& answer) {
    ends.push_back(answer.status());
  };
  const CallId call = client->StartAttend(first.args(), kLong, end);
  client->StartAttend(second.args(), kLong, end);
  client->Cancel(call);
  CHECK(ends.empty());
  client->RunUntil([&] { return !ends.empty(); });
  CHECK(absl::IsCancelled(ends[0]));
  client.reset();
  REQUIRE(ends.size() == 2);
  CHECK(absl::IsCancelled(ends[1]));
}

TEST_CASE("a client answers when it is asked whether it lives") {
  FakeDaemon daemon;
  daemon.SetScript(AnswerAttendWith(1));
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  daemon.PingClients();
  const absl::Time give_up = absl::Now() + absl::Seconds(5);
  while (daemon.pings_answered() == 0 && absl::Now() < give_up) client->Progress();
  CHECK(daemon.pings_answered() == 1);
}

TEST_CASE("records beyond one request's bound go in several and come back whole") {
  FakeDaemon daemon({.payload_bytes_per_request = 200});
  const Layout layout = FakeDaemon::TestLayout();
  daemon.SetScript([&](const ParsedRequest& request) {
    FakeAnswer answer;
    const auto* fetch = std::get_if<FetchRequest>(&request.body);
    if (fetch == nullptr) return answer;
    for (uint32_t l = 0; l < fetch->range.layers; ++l) {
      for (uint32_t t = 0; t < fetch->range.tokens; ++t) {
        const auto byte = static_cast<std::byte>((fetch->range.first_layer + l) * 100 +
                                                 fetch->range.first_token + t);
        answer.payload.insert(answer.payload.end(), layout.record_bytes(), byte);
      }
    }
    return answer;
  });
  const auto client = ConnectTo(daemon);
  const RecordRange range = {.chunk = kFirst, .layers = 2, .first_token = 3, .tokens = 15};
  std::vector<std::byte> records(2 * 15 * layout.record_bytes());
  CHECK(client->Publish(range, records, kLong) == absl::OkStatus());
  CHECK(daemon.requests(Opcode::kPublish) == 6);
  REQUIRE(client->Fetch(range, records, kLong) == absl::OkStatus());
  for (uint32_t l = 0; l < 2; ++l) {
    for (uint32_t t = 0; t < 15; ++t) {
      CHECK(records[(l * 15 + t) * layout.record_bytes()] ==
            static_cast<std::byte>(l * 100 + 3 + t));
    }
  }
}

}  // namespace
}  // namespace latentd
