// What a client does where several nodes hold a chunk: whom it asks, whom it leaves alone, who is
// told of leases, and what becomes of it all when the table changes.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "client/testing/fixture.h"
#include "transport/errors.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;
using wire::Opcode;

const std::vector<std::vector<NodeIndex>> kBoth = {{0, 1}};

// Both daemons hold everything, the first as primary: it answers 1, the other 3.
struct Replicas : Pair {
  Replicas() {
    Place(1, kBoth);
    a.SetScript(AnswerAttendWith(1));
    b.SetScript(AnswerAttendWith(3));
  }
};

// As AnswerAttendWith, from a lane where much waits.
Script BusyAnswer(float value) {
  return [value](const ParsedRequest& request) {
    FakeAnswer answer = AnswerAttendWith(value)(request);
    answer.compute_ns = 1'000'000'000;  // the round trip bounds it
    answer.batch_rows = 1;
    answer.lane_rows_queued = 10'000'000;
    return answer;
  };
}

Script Refuse(const absl::Status& status) {
  return [status](const ParsedRequest&) { return FakeAnswer{.status = status}; };
}

BreakerState BreakerOf(const Client& client, const NodeId& node) {
  for (const NodeHealth& health : client.health()) {
    if (health.node == node) return health.breaker;
  }
  return BreakerState::kClosed;
}

TEST_CASE("reads go to the primary while nothing speaks against it") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.b));
  Query query({kFirst});
  for (int i = 0; i < 20; ++i) REQUIRE(client->Attend(query.args(), kLong).ok());
  CHECK(daemons.a.requests(Opcode::kAttend) == 20);
}

TEST_CASE("reads go to the holder that reports less") {
  Replicas daemons;
  daemons.a.SetScript(BusyAnswer(1));
  const auto client = ConnectWith(PatientOptions(daemons.a));
  Query query({kFirst});
  for (int i = 0; i < 20; ++i) REQUIRE(client->Attend(query.args(), kLong).ok());
  CHECK(daemons.a.requests(Opcode::kAttend) == 1);
  CHECK(daemons.b.requests(Opcode::kAttend) == 19);
}

TEST_CASE("items that share their holders go to one of them, in one request") {
  Replicas daemons;
  daemons.a.SetScript(BusyAnswer(1));
  daemons.b.SetScript(BusyAnswer(3));
  const auto client = ConnectWith(PatientOptions(daemons.a));
  Query query({kFirst, kSecond, {.hi = 2, .lo = 5}});
  for (int i = 0; i < 20; ++i) {
    const auto answer = client->Attend(query.args(), kLong);
    REQUIRE(answer.ok());
    CHECK(answer->holders.size() == 1);
  }
  CHECK(daemons.a.requests(Opcode::kAttend) + daemons.b.requests(Opcode::kAttend) == 20);
}

TEST_CASE("a holder that lags behind is passed over") {
  Replicas daemons;
  daemons.a.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = WrongEpochError("behind"), .epoch = 0};
  });
  const auto client = ConnectWith(PatientOptions(daemons.a));
  Query query({kFirst});
  const auto answer = client->Attend(query.args(), kLong);
  INFO(answer.status().ToString());
  REQUIRE(answer.ok());
  CHECK(answer->holders[0].node == "node-b");
  CHECK(answer->holders[0].retried);
  CHECK(daemons.a.requests(Opcode::kAttend) == 1);
}

TEST_CASE("records that have not come to a holder yet are asked of another") {
  Replicas daemons;
  daemons.a.SetScript(Refuse(absl::OutOfRangeError("5 of 10 tokens")));
  const auto client = ConnectWith(PatientOptions(daemons.a));
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  CHECK(query.out_value() == 3);
}

TEST_CASE("a holder that drains is left alone for as long as it says") {
  Replicas daemons;
  daemons.a.SetScript(
      Refuse(WithRetryAfter(absl::UnavailableError("draining"), absl::Seconds(60))));
  const auto client = ConnectWith(PatientOptions(daemons.a));
  Query query({kFirst});
  const absl::Time start = absl::Now();
  for (int i = 0; i < 10; ++i) REQUIRE(client->Attend(query.args(), kLong).ok());
  // No longer than a second, whatever it says.
  if (absl::Now() - start < absl::Seconds(1)) CHECK(daemons.a.requests(Opcode::kAttend) == 1);
  daemons.a.SetScript(BusyAnswer(1));
  daemons.b.SetScript(BusyAnswer(3));
  CHECK(TurnUntil(
      *client, [&] { return client->Attend(query.args(), kLong).ok() && query.out_value() == 1; }));
}

TEST_CASE("a node that does not answer is left alone until a probe finds it well") {
  Replicas daemons;
  ClientOptions options = PatientOptions(daemons.b);
  options.attempt_timeout = absl::Milliseconds(100);
  options.breaker = {.failures = 2, .least_backoff = absl::Milliseconds(200)};
  const auto client = ConnectWith(options);
  Query query({kFirst});
  // The first may wait for a session for longer than an attempt may take.
  REQUIRE(TurnUntil(
      *client, [&] { return client->Attend(query.args(), kLong).ok() && query.out_value() == 1; }));
  daemons.a.Freeze(true);
  CHECK(TurnUntil(*client, [&] {
    // Others' load would keep requests from the primary.
    daemons.b.SetScript(BusyAnswer(3));
    REQUIRE(client->Attend(query.args(), kLong).ok());
    return BreakerOf(*client, "node-a") == BreakerState::kOpen;
  }));
  CHECK(client->counters().breakers_opened > 0);
  daemons.a.Freeze(false);
  CHECK(TurnUntil(*client, [&] {
    REQUIRE(client->Attend(query.args(), kLong).ok());
    return BreakerOf(*client, "node-a") == BreakerState::kClosed;
  }));
}

TEST_CASE("a breaker never keeps a question from the only holder that is left") {
  Replicas daemons;
  ClientOptions options = Options(daemons.b);
  options.breaker = {
      .failures = 1, .least_backoff = absl::Hours(1), .most_backoff = absl::Hours(1)};
  const auto client = ConnectWith(options);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  daemons.a.Freeze(true);
  REQUIRE(client->Attend(query.args(), kLong).ok());
  CHECK(query.out_value() == 3);
  CHECK(BreakerOf(*client, "node-a") == BreakerState::kOpen);
  daemons.a.Freeze(false);
  // The other has nothing to give any more.
  daemons.b.SetScript(Refuse(absl::NotFoundError("no such chunk")));
  CHECK(TurnUntil(*client, [&] { return client->Attend(query.args(), kLong).ok(); }));
  CHECK(query.out_value() == 1);
  CHECK(BreakerOf(*client, "node-a") == BreakerState::kClosed);
}

// --- Leases

const std::vector<ChunkId> kChunks = {kFirst, kSecond};

TEST_CASE("leases are taken and given back at every holder") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  CHECK(client->Pin(kChunks, absl::Seconds(1), kLong) == absl::OkStatus());
  CHECK(client->Release(kChunks, kLong) == absl::OkStatus());
  for (const FakeDaemon* daemon : {&daemons.a, &daemons.b}) {
    CHECK(daemon->requests(Opcode::kPin) == 1);
    CHECK(daemon->requests(Opcode::kRelease) == 1);
  }
}

TEST_CASE("one holder of each chunk is enough for a lease, if the others are gone or lost it") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  daemons.a.SetScript(Refuse(absl::UnavailableError("stopping")));
  CHECK(client->Pin(kChunks, absl::Seconds(1), kLong) == absl::OkStatus());
  daemons.b.SetScript(Refuse(absl::NotFoundError("no such chunk")));
  const absl::Status nowhere = client->Pin(kChunks, absl::Seconds(1), kLong);
  CHECK(absl::IsUnavailable(nowhere));
  CHECK_THAT(std::string(nowhere.message()), Contains("node-a: stopping"));
  daemons.a.SetScript(Refuse(absl::NotFoundError("no such chunk")));
  CHECK(absl::IsNotFound(client->Pin(kChunks, absl::Seconds(1), kLong)));
}

TEST_CASE("a holder that does not answer costs a lease no more than an attempt's time") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  REQUIRE(client->Pin(kChunks, absl::Seconds(1), kLong) == absl::OkStatus());
  daemons.b.Freeze(true);
  CHECK(client->Pin(kChunks, absl::Seconds(1), absl::Seconds(2)) == absl::OkStatus());
  CHECK(client->counters().attempts_timed_out == 1);
  daemons.a.Freeze(true);
  CHECK(absl::IsUnavailable(client->Pin(kChunks, absl::Seconds(1), absl::Seconds(2))));
  daemons.a.Freeze(false);
  daemons.b.Freeze(false);
}

TEST_CASE("what one holder has lost does not keep it from leasing what it has") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  std::atomic<int> pinned = 0;
  daemons.b.SetScript([&](const ParsedRequest& request) {
    const auto& pin = std::get<PinRequest>(request.body);
    for (const wire::IdEntry& id : pin.ids) {
      if (id.chunk_lo == kSecond.lo) return FakeAnswer{.status = absl::NotFoundError("lost")};
    }
    ++pinned;
    return FakeAnswer{};
  });
  CHECK(client->Pin(kChunks, absl::Seconds(1), kLong) == absl::OkStatus());
  CHECK(daemons.b.requests(Opcode::kPin) == 3);
  CHECK(pinned == 1);
}

TEST_CASE("any other refusal of a lease is the caller's to know") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  daemons.b.SetScript(Refuse(absl::FailedPreconditionError("another session publishes it")));
  CHECK(absl::IsFailedPrecondition(client->Pin(kChunks, absl::Seconds(1), kLong)));
}

TEST_CASE("a lease follows a slot to its new holders, without being taken twice") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  daemons.a.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = WrongEpochError("stale"), .epoch = 2};
  });
  FakeDaemon c({.node = "node-c"});
  const auto table =
      MakeTable(2, {{"node-b", daemons.b.address()}, {"node-c", c.address()}}, {{0, 1}});
  daemons.a.SetTable(table);
  daemons.b.SetTable(table);
  c.SetTable(table);
  CHECK(client->Pin({&kFirst, 1}, absl::Seconds(1), kLong) == absl::OkStatus());
  CHECK(daemons.a.requests(Opcode::kPin) == 1);
  CHECK(daemons.b.requests(Opcode::kPin) == 1);
  CHECK(c.requests(Opcode::kPin) == 1);
}

// --- Tables that change

TEST_CASE("a holder that left the table altogether is not asked again") {
  Pair pair;
  pair.a.SetScript([](const ParsedRequest&) {
    return FakeAnswer{.status = WrongEpochError("stale"), .epoch = 2};
  });
  pair.b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectWith(PatientOptions(pair.a));
  const auto table = MakeTable(2, {{"node-b", pair.b.address()}}, {{0}});
  pair.a.SetTable(table);
  pair.b.SetTable(table);
  Query query({kFirst, kSecond});
  const auto answer = client->Attend(query.args(), kLong);
  INFO(answer.status().ToString());
  REQUIRE(answer.ok());
  for (const HolderTiming& holder : answer->holders) CHECK(holder.node == "node-b");
  CHECK(client->health().size() == 1);
  const absl::Status gone = client->Echo({.node = "node-z"}, {}, 0, kLong).status();
  CHECK(absl::IsNotFound(gone));
}

TEST_CASE("tables that change faster than they are fetched are followed") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  std::atomic<uint64_t> epoch = 1;
  const auto script = [&](const ParsedRequest& request) {
    if (epoch < 4) {
      daemons.Place(++epoch, kBoth);
      return FakeAnswer{.status = WrongEpochError("stale"), .epoch = epoch};
    }
    return AnswerAttendWith(1)(request);
  };
  daemons.a.SetScript(script);
  daemons.b.SetScript(script);
  Query query({kFirst});
  const auto answer = client->Attend(query.args(), kLong);
  INFO(answer.status().ToString());
  REQUIRE(answer.ok());
  CHECK(client->table()->epoch() == Epoch{4});
}

TEST_CASE("what is under way at a node that dies and leaves the table is asked of its heir") {
  FakeDaemon b({.node = "node-b", .streams_tables = true});
  FakeDaemon a({.node = "node-a"});
  const auto before = MakeTable(1, {{"node-b", b.address()}, {"node-a", a.address()}}, {{1}, {0}});
  a.SetTable(before);
  b.SetTable(before);
  b.SetScript(AnswerAttendWith(3));
  a.SetScript(AnswerAttendWith(1));
  const auto client = ConnectTo(b);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), kLong).ok());
  REQUIRE(query.out_value() == 1);
  a.Freeze(true);
  absl::Status status = absl::UnknownError("not yet");
  client->StartAttend(query.args(), kLong, [&](const absl::StatusOr<AttendAnswer>& answer) {
    status = answer.status();
  });
  b.SetTable(MakeTable(2, {{"node-b", b.address()}}, {{0}}));
  CHECK(TurnUntil(*client, [&] { return !absl::IsUnknown(status); }));
  CHECK(status == absl::OkStatus());
  CHECK(query.out_value() == 3);
  a.Freeze(false);
}

// A port that accepts connections and says nothing.
class SilentPort {
 public:
  SilentPort() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    REQUIRE(bind(fd_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(listen(fd_, 8) == 0);
    REQUIRE(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  }
  ~SilentPort() { close(fd_); }
  const std::string& address() const { return address_; }

 private:
  const int fd_;
  std::string address_;
};

TEST_CASE("what waits for a session is placed anew when the table changes") {
  SilentPort silent;
  FakeDaemon b({.node = "node-b", .streams_tables = true});
  b.SetTable(MakeTable(1, {{"node-b", b.address()}, {"node-a", silent.address()}}, {{1}}));
  b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectTo(b);
  Query query({kFirst});
  absl::Status status = absl::UnknownError("not yet");
  client->StartAttend(
      query.args(), absl::Seconds(1),
      [&](const absl::StatusOr<AttendAnswer>& answer) { status = answer.status(); });
  b.SetTable(MakeTable(2, {{"node-b", b.address()}}, {{0}}));
  CHECK(TurnUntil(*client, [&] { return !absl::IsUnknown(status); }));
  CHECK(status == absl::OkStatus());
}

TEST_CASE("tables are not followed at a node that does not answer") {
  FakeDaemon a({.node = "node-a", .streams_tables = true});
  FakeDaemon b({.node = "node-b", .streams_tables = true});
  const auto before = MakeTable(1, {{"node-a", a.address()}, {"node-b", b.address()}}, {{0}});
  a.SetTable(before);
  b.SetTable(before);
  b.SetScript(AnswerAttendWith(3));
  const auto client = ConnectTo(b);  // and follows the table at the first node that it names
  a.Freeze(true);
  Query query({kFirst});
  b.SetTable(MakeTable(2, {{"node-a", a.address()}, {"node-b", b.address()}}, {{1}}));
  CHECK(TurnUntil(*client, [&] { return client->Attend(query.args(), kLong).ok(); }));
  CHECK(query.out_value() == 3);
  a.Freeze(false);
}

TEST_CASE("a session that does not open in an attempt's time is not waited for any longer") {
  SilentPort silent;
  FakeDaemon b({.node = "node-b"});
  b.SetTable(MakeTable(1, {{"node-a", silent.address()}, {"node-b", b.address()}}, kBoth));
  b.SetScript(AnswerAttendWith(3));
  ClientOptions options = PatientOptions(b);
  options.attempt_timeout = absl::Milliseconds(100);
  const auto client = ConnectWith(options);
  Query query({kFirst});
  REQUIRE(client->Attend(query.args(), absl::Milliseconds(1900)).ok());
  CHECK(query.out_value() == 3);
  CHECK(client->counters().attempts_timed_out == 1);
}

}  // namespace
}  // namespace latentd::testing
