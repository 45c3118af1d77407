// Two attempts at one request: one counts, whichever comes first, and the caller's memory is its
// own again when the call is over.
#include <cmath>
#include <mutex>
#include <set>

#include "client/testing/fixture.h"

namespace latentd::testing {
namespace {

// The ids of ATTENDs that a daemon was sent.
class Ids {
 public:
  Script Noting(float value) {
    return [this, value](const ParsedRequest& request) {
      const std::lock_guard lock(mutex_);
      ids_.insert(request.header.request_id);
      return AnswerAttendWith(value)(request);
    };
  }
  std::set<uint64_t> ids() const {
    const std::lock_guard lock(mutex_);
    return ids_;
  }

 private:
  mutable std::mutex mutex_;
  std::set<uint64_t> ids_;
};

// Both daemons hold everything, the first as primary: it answers 1, the other 3.
struct Replicas : Pair {
  Replicas() {
    Place(1, {{0, 1}});
    a.SetScript(AnswerAttendWith(1));
    b.SetScript(AnswerAttendWith(3));
  }
};

// A quarter of it is what an attempt may take.
constexpr absl::Duration kShort = absl::Seconds(3);

ClientOptions HedgingOptions(const FakeDaemon& daemon) {
  ClientOptions options = PatientOptions(daemon);
  // No answer takes that long unless it is held.
  options.hedge = {.quantile = 0.9, .floor = absl::Milliseconds(250), .max_share = 1};
  return options;
}

// One query, started.
struct Call {
  Call(Client& client, absl::Duration timeout, std::vector<ChunkId> chunks = {kFirst})
      : query(std::move(chunks)) {
    client.StartAttend(query.args(), timeout, [this](absl::StatusOr<AttendAnswer> result) {
      answer = std::move(result);
      done = true;
    });
  }
  Query query;
  absl::StatusOr<AttendAnswer> answer = absl::UnknownError("not yet");
  bool done = false;
};

// Both attempts have come.
auto BothHold(const Replicas& daemons) {
  return [&daemons] { return daemons.a.held() == 1 && daemons.b.held() == 1; };
}

void WarmUp(Client& client) {
  Query query({kFirst});
  for (int i = 0; i < 40; ++i) REQUIRE(client.Attend(query.args(), kLong).ok());
}

TEST_CASE("an attempt that takes too long costs one retry, and its answer is dropped") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  WarmUp(*client);
  daemons.a.Hold(true);
  Call call(*client, kShort);
  REQUIRE(TurnUntil(*client, [&] { return call.done; }));
  REQUIRE(call.answer.ok());
  CHECK(call.answer->holders.size() == 1);
  CHECK(call.answer->holders[0].node == "node-b");
  CHECK(call.answer->holders[0].retried);
  CHECK(call.query.out_value() == 3);
  CHECK(client->counters().attempts_timed_out == 1);
  REQUIRE(TurnUntil(*client, [&] { return daemons.a.held() == 1; }));
  daemons.a.Release();
  const auto settled = [&] { return client->health()[0].lanes[0].in_flight == 0; };
  REQUIRE(TurnUntil(*client, settled));
  CHECK(call.query.out_value() == 3);
  CHECK(call.query.lse[0] == 0);
  CHECK(client->counters().connections_lost == 0);
}

TEST_CASE("a holder that froze costs a quarter of the call's time where nothing else is said") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  WarmUp(*client);
  daemons.a.Freeze(true);
  Query query({kFirst});
  const absl::Time start = absl::Now();
  CHECK(client->Attend(query.args(), absl::Seconds(2)).ok());
  CHECK(query.out_value() == 3);
  CHECK(absl::Now() - start >= absl::Milliseconds(500));
  daemons.a.Freeze(false);
}

TEST_CASE("the first attempt's answer counts if it comes before the second's") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  WarmUp(*client);
  daemons.a.Hold(true);
  daemons.b.Hold(true);
  Call call(*client, kShort);
  REQUIRE(TurnUntil(*client, BothHold(daemons)));
  daemons.a.Release();
  REQUIRE(TurnUntil(*client, [&] { return call.done; }));
  REQUIRE(call.answer.ok());
  CHECK(call.query.out_value() == 1);
  CHECK(call.query.lse[0] == 0);
  daemons.b.Release();
}

TEST_CASE("of two attempts the one that fails leaves it to the other") {
  const bool first_fails = GENERATE(true, false);
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  WarmUp(*client);
  FakeDaemon& failing = first_fails ? daemons.a : daemons.b;
  FakeDaemon& other = first_fails ? daemons.b : daemons.a;
  daemons.a.Hold(true);
  daemons.b.Hold(true);
  failing.SetScript(
      [](const ParsedRequest&) { return FakeAnswer{.status = absl::InternalError("broken")}; });
  Call call(*client, kShort);
  REQUIRE(TurnUntil(*client, BothHold(daemons)));
  failing.Release();
  const size_t failed = first_fails ? 0 : 1;
  REQUIRE(TurnUntil(*client, [&] { return client->health()[failed].lanes[0].in_flight == 0; }));
  CHECK_FALSE(call.done);
  other.Release();
  REQUIRE(TurnUntil(*client, [&] { return call.done; }));
  CHECK(call.answer.ok());
}

TEST_CASE("when both attempts fail the caller learns it") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  WarmUp(*client);
  daemons.a.Hold(true);
  daemons.b.SetScript(
      [](const ParsedRequest&) { return FakeAnswer{.status = absl::NotFoundError("lost")}; });
  daemons.a.SetScript(
      [](const ParsedRequest&) { return FakeAnswer{.status = absl::UnavailableError("stops")}; });
  daemons.b.Hold(true);
  Call call(*client, kShort);
  REQUIRE(TurnUntil(*client, BothHold(daemons)));
  daemons.b.Release();
  daemons.a.Release();
  REQUIRE(TurnUntil(*client, [&] { return call.done; }));
  CHECK(absl::IsUnavailable(call.answer.status()));
}

TEST_CASE("holders that are both silent leave the call to its deadline") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  WarmUp(*client);
  daemons.a.Hold(true);
  daemons.b.Hold(true);
  Query query({kFirst});
  const absl::Status status = client->Attend(query.args(), absl::Seconds(1)).status();
  CHECK(absl::IsDeadlineExceeded(status));
  CHECK(daemons.a.held() == 1);
  CHECK(daemons.b.held() == 1);
}

TEST_CASE("records of a frozen holder's fetch come from the other, and the late ones nowhere") {
  Replicas daemons;
  const auto client = ConnectWith(PatientOptions(daemons.a));
  WarmUp(*client);
  const auto filled = [](std::byte with) {
    return [with](const ParsedRequest& request) {
      FakeAnswer answer;
      const auto* fetch = std::get_if<FetchRequest>(&request.body);
      if (fetch == nullptr) return answer;
      answer.payload.assign(
          fetch->range.layers * fetch->range.tokens * FakeDaemon::TestLayout().record_bytes(),
          with);
      return answer;
    };
  };
  daemons.a.SetScript(filled(std::byte{1}));
  daemons.b.SetScript(filled(std::byte{3}));
  daemons.a.Hold(true);
  std::vector<std::byte> records(size_t{2} * 50'000 * FakeDaemon::TestLayout().record_bytes());
  REQUIRE(client->Fetch({.chunk = kFirst, .layers = 2, .tokens = 50'000}, records, kShort).ok());
  REQUIRE(TurnUntil(*client, [&] { return daemons.a.held() == 1; }));
  daemons.a.Release();
  REQUIRE(TurnUntil(*client, [&] { return client->health()[0].lanes[0].in_flight == 0; }));
  CHECK(records.front() == std::byte{3});
  CHECK(records.back() == std::byte{3});
}

// --- Memory

// Rows beyond what UCX copies: a holder has to fetch them from where they lie.
struct LargeQuery {
  static constexpr uint32_t kTokens = 400;
  static constexpr uint32_t kHeads = 128;
  AttendQuery args() {
    return {.layer = 0,
            .scale = 1,
            .heads = kHeads,
            .groups = {&group, 1},
            .rows = *rows,
            .out = out,
            .lse = lse};
  }
  VisibleChunk chunk = {kFirst, 10};
  QueryGroup group = {.tokens = kTokens, .chunks = {&chunk, 1}};
  std::unique_ptr<std::vector<Bf16>> rows =
      std::make_unique<std::vector<Bf16>>(size_t{kTokens} * kHeads * kGeometry.row_width());
  std::vector<std::byte> out =
      std::vector<std::byte>(size_t{kTokens} * kHeads * kGeometry.latent_width * sizeof(Bf16));
  std::vector<float> lse = std::vector<float>(size_t{kTokens} * kHeads);
};

TEST_CASE("rows that a frozen holder has not taken are the caller's again when the call is over") {
  const bool hedge = GENERATE(false, true);
  Replicas daemons;
  const auto client = ConnectWith(hedge ? HedgingOptions(daemons.a) : PatientOptions(daemons.a));
  WarmUp(*client);
  const uint64_t lost = client->counters().connections_lost;
  daemons.a.Freeze(true);
  LargeQuery query;
  bool done = false;
  client->StartAttend(query.args(), hedge ? kLong : kShort,
                      [&](const absl::StatusOr<AttendAnswer>& answer) {
                        INFO(answer.status().ToString());
                        CHECK(answer.ok());
                        query.rows.reset();
                        done = true;
                      });
  REQUIRE(TurnUntil(*client, [&] { return done; }));
  // A copy can be left to the frozen holder; the caller's own rows only closing can take back.
  CHECK(client->counters().connections_lost - lost == (hedge ? 0 : 1));
  daemons.a.Freeze(false);
  Query again({kFirst});
  CHECK(TurnUntil(*client, [&] { return client->Attend(again.args(), kLong).ok(); }));
}

// --- Hedging

TEST_CASE("a request beyond the holder's usual time is sent to another, under the same id") {
  Replicas daemons;
  const auto client = ConnectWith(HedgingOptions(daemons.a));
  WarmUp(*client);
  const ClientCounters before = client->counters();
  Ids first;
  Ids second;
  daemons.a.SetScript(first.Noting(1));
  daemons.b.SetScript(second.Noting(3));
  daemons.a.Hold(true);
  Call call(*client, kLong);
  REQUIRE(TurnUntil(*client, [&] { return call.done; }));
  REQUIRE(call.answer.ok());
  CHECK(call.query.out_value() == 3);
  CHECK(call.query.lse[0] == 0);
  CHECK_FALSE(call.answer->holders[0].retried);
  CHECK(client->counters().hedges_sent == before.hedges_sent + 1);
  CHECK(client->counters().hedges_won == before.hedges_won + 1);
  CHECK(client->counters().attempts_timed_out == before.attempts_timed_out);
  REQUIRE(TurnUntil(*client, [&] { return daemons.a.held() == 1; }));
  daemons.a.Release();
  REQUIRE(TurnUntil(*client, [&] { return first.ids().size() == 1; }));
  CHECK(first.ids() == second.ids());
}

TEST_CASE("a hedge that loses changes nothing") {
  Replicas daemons;
  const auto client = ConnectWith(HedgingOptions(daemons.a));
  WarmUp(*client);
  const ClientCounters before = client->counters();
  daemons.a.Hold(true);
  daemons.b.Hold(true);
  Call call(*client, kLong, {kFirst, kSecond});
  REQUIRE(TurnUntil(*client, BothHold(daemons)));
  daemons.a.Release();
  REQUIRE(TurnUntil(*client, [&] { return call.done; }));
  REQUIRE(call.answer.ok());
  CHECK(call.query.out_value() == 1);
  daemons.b.Release();
  REQUIRE(TurnUntil(*client, [&] { return client->health()[1].lanes[0].in_flight == 0; }));
  CHECK(call.query.out_value() == 1);
  CHECK(client->counters().hedges_sent == before.hedges_sent + 1);
  CHECK(client->counters().hedges_won == before.hedges_won);
}

TEST_CASE("without a share nothing is hedged, nor by default") {
  const bool by_default = GENERATE(false, true);
  Replicas daemons;
  ClientOptions options = by_default ? PatientOptions(daemons.a) : HedgingOptions(daemons.a);
  options.hedge.max_share = by_default ? 1 : 0;
  const auto client = ConnectWith(options);
  WarmUp(*client);
  daemons.a.Hold(true);
  Query query({kFirst});
  CHECK(client->Attend(query.args(), absl::Seconds(2)).ok());
  CHECK(client->counters().hedges_sent == 0);
  CHECK(client->counters().attempts_timed_out > 0);
}

TEST_CASE("a client can go while two attempts are under way") {
  Replicas daemons;
  auto client = ConnectWith(HedgingOptions(daemons.a));
  WarmUp(*client);
  daemons.a.Hold(true);
  daemons.b.Hold(true);
  Call call(*client, kLong);
  REQUIRE(TurnUntil(*client, BothHold(daemons)));
  client.reset();
  CHECK(absl::IsCancelled(call.answer.status()));
  daemons.a.Release();
  daemons.b.Release();
}

}  // namespace
}  // namespace latentd::testing
