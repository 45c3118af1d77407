// What a client does when holders refuse, disagree, hang, restart or go.
#include <atomic>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/testing/fixture.h"
#include "transport/errors.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;
using wire::Opcode;

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

TEST_CASE("a holder that does not catch up with the table is asked less and less often") {
  FakeDaemon daemon;
  daemon.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = WrongEpochError("behind"), .epoch = 0};
  });
  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  const absl::Status status = client->Attend(query.args(), absl::Seconds(1)).status();
  CHECK((absl::IsDeadlineExceeded(status) || IsWrongEpoch(status)));
  CHECK(daemon.requests(Opcode::kAttend) >= 5);
  CHECK(daemon.requests(Opcode::kAttend) <= 13);
}

TEST_CASE("daemons that restarted with other nodes and the same epoch are followed") {
  Pair pair;
  pair.a.SetScript(AnswerAttendWith(1));
  pair.b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectTo(pair.a);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  CHECK(query.out_value() == 1);
  pair.Place(1, {{1}, {0}});
  pair.a.ForgetSessions();
  pair.b.ForgetSessions();
  // What first tells of it may be a broken connection, or an answer by the old table.
  const absl::Time give_up = absl::Now() + absl::Seconds(10);
  while (query.out_value() != 3 && absl::Now() < give_up) {
    static_cast<void>(client->Attend(query.args(), kLong));
  }
  CHECK(query.out_value() == 3);
  CHECK(client->counters().table_conflicts == 1);
}

TEST_CASE("a session that was found alive does not bring its old table back") {
  Pair pair;
  pair.a.SetScript(AnswerAttendWith(1));
  pair.b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectTo(pair.a);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  // A new session at b says that b holds it all.
  pair.Place(1, {{1}, {1}});
  Query other({kSecond});
  REQUIRE(client->Attend(other.args(), kLong).ok());
  const auto table = client->table();
  CHECK(table->PrimaryOf(kFirst.slot()) == 1);
  // The first session's connection breaks, and is mended.
  pair.a.Freeze(true);
  CHECK_FALSE(client->Echo({.node = "node-a"}, {}, 0, absl::Seconds(1)).ok());
  pair.a.Freeze(false);
  const absl::Time give_up = absl::Now() + absl::Seconds(10);
  while (!client->Echo({.node = "node-a"}, {}, 0, kLong).ok() && absl::Now() < give_up) {
  }
  CHECK(client->table() == table);
  CHECK(pair.a.sessions_opened() == 1);
}

TEST_CASE("another table of the same epoch is noticed, but not believed from a stream") {
  FakeDaemon daemon({.streams_tables = true});
  const auto client = ConnectTo(daemon);
  const auto table = client->table();
  const absl::Time give_up = absl::Now() + absl::Seconds(10);
  // Whoever is not watching yet finds the last one set: several, until one was seen.
  for (uint16_t port = 1; client->counters().table_conflicts == 0 && absl::Now() < give_up;
       ++port) {
    daemon.SetTable(MakeTable(1, {{"node-a", absl::StrCat("127.0.0.1:", port)}}, {{0}}));
    absl::SleepFor(absl::Milliseconds(20));
    client->Progress();
  }
  CHECK(client->counters().table_conflicts > 0);
  CHECK(client->table() == table);
}

TEST_CASE("a holder that does not hold the slot is asked for its table") {
  Pair pair;
  pair.a.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = NotHolderError("slot 0 is held by node-b")};
  });
  pair.b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectTo(pair.a);
  pair.Place(1, {{1}, {1}});
  Query query({kFirst});
  const auto answer = client->Attend(query.args(), kLong);
  INFO(answer.status().ToString());
  REQUIRE(answer.ok());
  CHECK(query.out_value() == 3);
  CHECK(answer->holders[0].retried);
  CHECK(pair.a.requests(Opcode::kAttend) == 1);
}

TEST_CASE("holders that all deny a slot are asked once each, and the caller learns why") {
  Pair pair;
  const auto deny = [](const ParsedRequest&) {
    return FakeAnswer{.status = NotHolderError("slot 0 is held by the other")};
  };
  pair.a.SetScript(deny);
  pair.b.SetScript(deny);
  const auto client = ConnectTo(pair.a);
  pair.Place(1, {{1}, {1}});
  Query query({kFirst});
  const absl::Status status = client->Attend(query.args(), kLong).status();
  CHECK(IsNotHolder(status));
  CHECK_THAT(std::string(status.message()), Contains("node-b: it goes by another table"));
  CHECK(pair.a.requests(Opcode::kAttend) == 1);
  CHECK(pair.b.requests(Opcode::kAttend) == 1);
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

TEST_CASE("a holder that lost a chunk is replaced by one that has it") {
  Pair pair;
  pair.Place(1, {{0, 1}});
  pair.a.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = absl::NotFoundError("no such chunk")};
  });
  pair.b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectTo(pair.a);
  Query query({kFirst});
  const auto answer = client->Attend(query.args(), kLong);
  INFO(answer.status().ToString());
  REQUIRE(answer.ok());
  CHECK(query.out_value() == 3);
  CHECK(answer->holders[0].node == "node-b");
}

TEST_CASE("a chunk whose first holder is not there is not said to be gone") {
  Pair pair;
  pair.Place(1, {{0, 1}});
  pair.a.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = absl::UnavailableError("draining")};
  });
  pair.b.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = absl::NotFoundError("no such chunk")};
  });
  const auto client = ConnectTo(pair.a);
  Query query({kFirst});
  const absl::Status status = client->Attend(query.args(), kLong).status();
  CHECK(absl::IsUnavailable(status));
  CHECK_THAT(std::string(status.message()), Contains("node-a: draining"));
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

TEST_CASE("a client can go while an answer is on its way to it") {
  FakeDaemon daemon;
  const auto layout = FakeDaemon::TestLayout();
  std::vector<std::byte> records(size_t{2} * 100'000 * layout.record_bytes());
  daemon.SetScript([&](const ParsedRequest&) {
    daemon.Freeze(true);  // once it has announced the answer, which is too long to come with that
    return FakeAnswer{.payload = std::vector<std::byte>(records.size())};
  });
  auto client = ConnectTo(daemon);
  CHECK(absl::IsDeadlineExceeded(client->Fetch({.chunk = kFirst, .layers = 2, .tokens = 100'000},
                                               records, absl::Milliseconds(200))));
  client.reset();
  daemon.Freeze(false);
}

TEST_CASE("an answer about other chunks than were asked for is none") {
  FakeDaemon daemon;
  const auto client = ConnectTo(daemon);
  const std::vector<ChunkId> ids = {kFirst, kSecond};
  const absl::Status status = client->Stat(ids, kLong).status();
  CHECK(absl::IsInternal(status));
  CHECK_THAT(std::string(status.message()),
             Contains("node-a") && Contains("stat entries: got 0, expected 2"));
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

TEST_CASE("while a holder hangs, others answer in its place at once") {
  Pair pair;
  pair.Place(1, {{0, 1}});
  pair.a.SetScript(AnswerAttendWith(1));
  pair.b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectTo(pair.b);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  CHECK(query.out_value() == 1);
  pair.a.Freeze(true);
  REQUIRE(client->Attend(query.args(), kLong).ok());  // after it was given up
  CHECK(query.out_value() == 3);
  const absl::Time start = absl::Now();
  REQUIRE(client->Attend(query.args(), kLong).ok());
  CHECK(absl::Now() - start < absl::Milliseconds(200));
  pair.a.Freeze(false);
  const absl::Time give_up = absl::Now() + absl::Seconds(10);
  while (query.out_value() != 1 && absl::Now() < give_up) {
    REQUIRE(client->Attend(query.args(), kLong).ok());
  }
  CHECK(query.out_value() == 1);
}

TEST_CASE("what changes a chunk is never sent to a second holder") {
  Pair pair;
  pair.Place(1, {{0, 1}});
  const auto client = ConnectTo(pair.b);
  pair.a.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = absl::UnavailableError("draining")};
  });
  const std::vector<std::byte> records(2 * FakeDaemon::TestLayout().record_bytes());
  const absl::Duration time = absl::Milliseconds(200);
  const absl::Status status =
      client->Publish({.chunk = kFirst, .layers = 2, .tokens = 1}, records, time);
  CHECK(absl::IsDeadlineExceeded(status));
  CHECK_THAT(std::string(status.message()), Contains("for another primary than node-a"));
  CHECK(absl::IsDeadlineExceeded(client->Seal(kFirst, 1, 0, time)));
  CHECK(pair.a.requests(Opcode::kPublish) > 1);
  CHECK(pair.a.requests(Opcode::kSeal) > 1);
  CHECK(pair.b.requests(Opcode::kPublish) + pair.b.requests(Opcode::kSeal) == 0);
}

TEST_CASE("what changes a chunk whose primary dies is done by the next one") {
  FakeDaemon b({.node = "node-b", .streams_tables = true});
  FakeDaemon a({.node = "node-a"});
  const auto before = MakeTable(1, {{"node-b", b.address()}, {"node-a", a.address()}}, {{1, 0}});
  a.SetTable(before);
  b.SetTable(before);
  const auto client = ConnectTo(b);
  const std::vector<std::byte> records(2 * FakeDaemon::TestLayout().record_bytes());
  const ChunkRange range = {.chunk = kFirst, .layers = 2, .tokens = 1};
  REQUIRE(client->Publish(range, records, kLong) == absl::OkStatus());
  REQUIRE(a.requests(Opcode::kPublish) == 1);
  a.Freeze(true);
  std::vector<absl::Status> ended;
  const auto done = [&](const absl::Status& status) { ended.push_back(status); };
  client->StartPublish(range, records, kLong, done);
  client->StartSeal(kFirst, 1, 0, kLong, done);
  // It is found out before anybody else is primary.
  const absl::Time found_out = absl::Now() + absl::Seconds(1);
  CHECK(TurnUntil(*client, [&] { return absl::Now() > found_out; }));
  CHECK(ended.empty());
  b.SetTable(MakeTable(2, {{"node-b", b.address()}}, {{0}}));
  CHECK(TurnUntil(*client, [&] { return ended.size() == 2; }));
  for (const absl::Status& status : ended) CHECK(status == absl::OkStatus());
  CHECK(b.requests(Opcode::kPublish) == 1);
  CHECK(b.requests(Opcode::kSeal) == 1);
  a.Freeze(false);
}

TEST_CASE("a primary that is itself again is sent what it refused") {
  FakeDaemon daemon;
  std::atomic<int> refusals = 2;
  daemon.SetScript([&](const ParsedRequest&) {
    return refusals-- > 0 ? FakeAnswer{.status = absl::UnavailableError("its lease is over")}
                          : FakeAnswer{};
  });
  const auto client = ConnectTo(daemon);
  CHECK(client->Seal(kFirst, 1, 0, kLong) == absl::OkStatus());
  CHECK(daemon.requests(Opcode::kSeal) == 3);
}

}  // namespace
}  // namespace latentd::testing
