#include "client/client.h"

#include <poll.h>

#include <cmath>

#include "absl/time/clock.h"
#include "client/testing/fixture.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;
using wire::Opcode;

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

TEST_CASE(
    "a device that is none, or not there, is refused by name, and so is its use without one") {
  FakeDaemon daemon;
  ClientOptions options = Options(daemon);
  options.device = "gpu";
  CHECK(absl::IsInvalidArgument(Client::Connect(options).status()));
  options.device = "cuda:99";
  const absl::Status status = Client::Connect(options).status();
  CHECK((absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status)));
  CHECK_THAT(std::string(status.message()), Contains("cuda:99"));

  const auto client = ConnectTo(daemon);
  Query query({kFirst});
  AttendQuery args = query.args();
  args.on_device = true;
  CHECK(absl::IsFailedPrecondition(client->Attend(args, kLong).status()));
  const std::vector<std::byte> records(client->layout().record_bytes());
  CHECK(absl::IsFailedPrecondition(client->PublishFromDevice(
      {.chunk = kFirst, .layers = 1, .tokens = 1}, records, nullptr, kLong)));
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
  const auto client = ConnectWith(PatientOptions(pair.a));
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

TEST_CASE("a chunk used elsewhere than where it was made says so to its holder, within the model") {
  FakeDaemon daemon;
  std::vector<int32_t> shifts;
  daemon.SetScript([&](const ParsedRequest& request) {
    for (const auto& group : std::get<AttendRequest>(request.body).groups) {
      shifts.push_back(group.position_shift);
    }
    return AnswerAttendWith(2)(request);
  });
  const auto client = ConnectTo(daemon);
  Query query({kFirst, {.hi = 2, .lo = 5}});
  query.chunks[1].position_shift = -12;
  const auto answer = client->Attend(query.args(), kLong);
  INFO(answer.status().ToString());
  REQUIRE(answer.ok());
  CHECK(shifts == std::vector<int32_t>{-12, 0});
  CHECK(query.out_value() == 2);
  CHECK(query.lse[0] == Approx(std::log(2.0)));

  query.chunks[1].position_shift = 1 << 24;
  CHECK(absl::IsOutOfRange(client->Attend(query.args(), kLong).status()));
  CHECK(shifts.size() == 2);
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
  const ChunkRange range = {.chunk = kFirst, .layers = 2, .first_token = 3, .tokens = 15};
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
}  // namespace latentd::testing
