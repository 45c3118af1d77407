#include <array>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "catch2/catch.hpp"
#include "client/exchange_table.h"

namespace latentd {
namespace {

using State = ExchangeState;
using Event = ExchangeEvent;

constexpr std::array kStates = {State::kWaiting,  State::kSending,   State::kSent,
                                State::kHeldBack, State::kReceiving, State::kSendingReceiving,
                                State::kDraining, State::kDone};
constexpr std::array kEvents = {Event::kGoesOut, Event::kPayloadTaken, Event::kAnswerBegins,
                                Event::kEnds};

TEST_CASE("an exchange goes out, is taken, is answered and is done") {
  State state = State::kWaiting;
  for (const Event event : {Event::kGoesOut, Event::kPayloadTaken, Event::kAnswerBegins}) {
    const ExchangeStep step = StepExchange(state, event, true);
    CHECK_FALSE(step.report);
    CHECK_FALSE(step.ignored);
    state = step.next;
  }
  const ExchangeStep last = StepExchange(state, Event::kEnds, true);
  CHECK(last.report);
  CHECK(last.next == State::kDone);
}

TEST_CASE("an answer that comes while UCX reads the caller's memory is held back") {
  const ExchangeStep answered = StepExchange(State::kSending, Event::kEnds, true);
  CHECK_FALSE(answered.report);
  CHECK(answered.next == State::kHeldBack);
  CHECK(StepExchange(State::kHeldBack, Event::kPayloadTaken, true).report);
  // Memory of ours is nobody's to wait for, but it stays until it was read.
  const ExchangeStep own = StepExchange(State::kSending, Event::kEnds, false);
  CHECK(own.report);
  CHECK(own.next == State::kDraining);
}

TEST_CASE("what comes too late or twice changes nothing") {
  for (const State state : kStates) {
    for (const Event event : kEvents) {
      for (const bool lends : {false, true}) {
        const ExchangeStep step = StepExchange(state, event, lends);
        if (step.ignored) {
          CHECK(step.next == state);
          CHECK_FALSE(step.report);
        } else {
          CHECK(step.next != state);
        }
        if (state == State::kDone) CHECK(step.ignored);
        if (step.report) CHECK_FALSE((lends && IsReadByUcx(step.next)));
        if (event == Event::kEnds && !step.ignored) CHECK_FALSE(IsInFlight(step.next));
      }
    }
  }
}

// Callers, UCX and holders that do what they may in any order, around one table.
class World {
 public:
  explicit World(uint64_t seed) : random_(seed) {}

  void Step() {
    switch (Pick(7)) {
      case 0:
        return Submit();
      case 1:
        if (Exchange* e = Any()) GoOut(*e);
        return;
      case 2:
        return TakePayload();
      case 3:
      case 4:
        return Answer();
      case 5:
        return FinishReceiving();
      case 6:
        if (Exchange* e = Any()) End(*e);  // abandoned, or its link failed
        return;
    }
  }

  void Settle() {
    for (const uint64_t id : table_.ids()) {
      if (Exchange* e = table_.Find(id)) End(*e);
    }
    while (!sends_.empty()) TakePayload();
    while (!receives_.empty()) FinishReceiving();
    CHECK(table_.size() == 0);
    for (const auto& [id, call] : calls_) CHECK(call.reports == 1);
    for (const uint64_t request_id : requests_) CHECK(table_.Attempts(request_id).empty());
  }

 private:
  struct Call {
    bool lends = false;
    std::unique_ptr<std::vector<std::byte>> memory;  // the caller's, until the report
    std::span<const std::byte> payload;
    uint64_t first_end = 0;
    int reports = 0;
  };

  size_t Pick(size_t count) { return std::uniform_int_distribution<size_t>(0, count - 1)(random_); }

  Exchange* Any() {
    const auto ids = table_.ids();
    if (ids.empty()) return nullptr;
    return table_.Find(ids[Pick(ids.size())]);
  }

  void Submit() {
    Call call;
    Outgoing out;
    call.lends = Pick(2) == 0;
    if (call.lends) {
      call.memory = std::make_unique<std::vector<std::byte>>(1 + Pick(64), std::byte{1});
      out.payload = *call.memory;
    } else if (Pick(2) == 0) {
      out.owned = pool_.Take(64);
      out.payload = std::as_const(out.owned).bytes();
    }
    call.payload = out.payload;
    const uint64_t again =
        !requests_.empty() && Pick(2) == 0 ? requests_[Pick(requests_.size())] : 0;
    const size_t attempts = table_.Attempts(again).size();
    Exchange& exchange = table_.Add(std::move(out), again);
    CHECK(exchange.lends() == call.lends);
    CHECK(exchange.request_id == (again != 0 ? again : exchange.id));
    if (again != 0) CHECK(table_.Attempts(again).size() == attempts + 1);
    CHECK_FALSE(calls_.contains(exchange.id));
    if (again == 0) requests_.push_back(exchange.id);
    calls_[exchange.id] = std::move(call);
  }

  void GoOut(Exchange& exchange) {
    if (!table_.GoesOut(exchange).ignored) sends_.insert(exchange.id);
  }

  // UCX has read the payload: it was there, and the exchange that keeps it as well.
  void TakePayload() {
    if (sends_.empty()) return;
    const auto at = std::next(sends_.begin(), static_cast<int64_t>(Pick(sends_.size())));
    const uint64_t id = *at;
    Exchange* exchange = table_.Find(id);
    REQUIRE(exchange != nullptr);
    const Call& call = calls_.at(id);
    if (call.lends) {
      REQUIRE(call.memory != nullptr);
      CHECK(call.payload.back() == std::byte{1});
    }
    sends_.erase(at);
    Take(id, table_.PayloadTaken(*exchange));
  }

  // By the request's id, as the wire has it: it may be the second answer, or to another attempt.
  void Answer() {
    if (requests_.empty()) return;
    const auto attempts = table_.Attempts(requests_[Pick(requests_.size())]);
    if (attempts.empty()) return;
    Exchange* exchange = attempts[Pick(attempts.size())];
    if (exchange->state == State::kSending || exchange->state == State::kSent) {
      if (Pick(2) == 0) return End(*exchange);
      CHECK_FALSE(table_.AnswerBegins(*exchange).ignored);
      receives_.push_back(exchange->id);
    } else {
      CHECK(table_.AnswerBegins(*exchange).ignored);
    }
  }

  void FinishReceiving() {
    if (receives_.empty()) return;
    const size_t at = Pick(receives_.size());
    const uint64_t id = receives_[at];
    receives_.erase(receives_.begin() + static_cast<int64_t>(at));
    if (Exchange* exchange = table_.Find(id)) End(*exchange);
  }

  void End(Exchange& exchange) {
    const uint64_t id = exchange.id;
    ExchangeResult result;
    result.rows = ++ends_;
    if (calls_.at(id).first_end == 0) calls_.at(id).first_end = ends_;
    Take(id, table_.Ends(exchange, std::move(result)));
  }

  void Take(uint64_t id, const ExchangeTable::Moved& moved) {
    if (!moved.report.has_value()) return;
    Call& call = calls_.at(id);
    CHECK(++call.reports == 1);
    CHECK(moved.report->rows == call.first_end);
    if (call.lends) CHECK_FALSE(sends_.contains(id));
    call.memory.reset();
  }

  std::mt19937_64 random_;
  PayloadPool pool_;
  ExchangeTable table_;
  std::map<uint64_t, Call> calls_;
  std::set<uint64_t> sends_;  // that UCX has not finished
  std::vector<uint64_t> receives_;
  std::vector<uint64_t> requests_;
  uint64_t ends_ = 0;
};

TEST_CASE("attempts at one request are found under its id until they are done") {
  ExchangeTable table;
  Exchange& first = table.Add({});
  Exchange& second = table.Add({}, first.id);
  CHECK(second.request_id == first.id);
  CHECK(second.id != first.id);
  REQUIRE(table.Attempts(first.id).size() == 2);
  CHECK(table.Attempts(first.id)[1] == &second);
  CHECK(table.Attempts(second.id).empty());
  const uint64_t request_id = first.id;
  table.Ends(first, {});
  REQUIRE(table.Attempts(request_id).size() == 1);
  CHECK(table.Attempts(request_id)[0] == &second);
  table.Ends(second, {});
  CHECK(table.Attempts(request_id).empty());
}

TEST_CASE("in any order, each call is told once and nothing reads its memory afterwards") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    INFO("seed " << seed);
    World world(seed);
    for (int step = 0; step < 300; ++step) world.Step();
    world.Settle();
  }
}

}  // namespace
}  // namespace latentd
