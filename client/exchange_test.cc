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
    for (const auto& [id, serial] : table_.ids()) {
      if (Exchange* e = table_.Find(id, serial)) End(*e);
    }
    while (!sends_.empty()) TakePayload();
    while (!receives_.empty()) FinishReceiving();
    CHECK(table_.size() == 0);
    for (const auto& [serial, call] : calls_) CHECK(call.reports == 1);
  }

 private:
  using Key = std::pair<uint64_t, uint64_t>;  // id, serial
  struct Call {
    uint64_t id = 0;
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
    const auto [id, serial] = ids[Pick(ids.size())];
    return table_.Find(id, serial);
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
    const uint64_t reuse = !ended_.empty() && Pick(2) == 0 ? ended_[Pick(ended_.size())] : 0;
    const bool free = table_.Find(reuse) == nullptr;
    Exchange& exchange = table_.Add(std::move(out), reuse);
    CHECK(exchange.lends() == call.lends);
    CHECK((exchange.id == reuse) == (reuse != 0 && free));
    CHECK_FALSE(calls_.contains(exchange.serial));
    call.id = exchange.id;
    calls_[exchange.serial] = std::move(call);
  }

  void GoOut(Exchange& exchange) {
    const Key key = {exchange.id, exchange.serial};
    if (table_.GoesOut(exchange).ignored) return;
    sends_.insert(key);
    sent_ids_.push_back(key.first);
  }

  // UCX has read the payload: it was there, and the exchange that keeps it as well.
  void TakePayload() {
    if (sends_.empty()) return;
    const auto at = std::next(sends_.begin(), static_cast<int64_t>(Pick(sends_.size())));
    const Key key = *at;
    Exchange* exchange = table_.Find(key.first, key.second);
    REQUIRE(exchange != nullptr);
    const Call& call = calls_.at(key.second);
    if (call.lends) {
      REQUIRE(call.memory != nullptr);
      CHECK(call.payload.back() == std::byte{1});
    }
    sends_.erase(at);
    Take(key.second, table_.PayloadTaken(*exchange));
  }

  // By its id, as the wire has it: it may be the second, or to an earlier attempt.
  void Answer() {
    if (sent_ids_.empty()) return;
    Exchange* exchange = table_.Find(sent_ids_[Pick(sent_ids_.size())]);
    if (exchange == nullptr) return;
    const Key key = {exchange->id, exchange->serial};
    if (exchange->state == State::kSending || exchange->state == State::kSent) {
      if (Pick(2) == 0) return End(*exchange);
      CHECK_FALSE(table_.AnswerBegins(*exchange).ignored);
      receives_.push_back(key);
    } else {
      CHECK(table_.AnswerBegins(*exchange).ignored);
    }
  }

  void FinishReceiving() {
    if (receives_.empty()) return;
    const size_t at = Pick(receives_.size());
    const Key key = receives_[at];
    receives_.erase(receives_.begin() + static_cast<int64_t>(at));
    if (Exchange* exchange = table_.Find(key.first, key.second)) End(*exchange);
  }

  void End(Exchange& exchange) {
    const uint64_t serial = exchange.serial;
    ExchangeResult result;
    result.rows = ++ends_;
    if (calls_.at(serial).first_end == 0) calls_.at(serial).first_end = ends_;
    Take(serial, table_.Ends(exchange, std::move(result)));
  }

  void Take(uint64_t serial, const ExchangeTable::Moved& moved) {
    if (!moved.report.has_value()) return;
    Call& call = calls_.at(serial);
    CHECK(++call.reports == 1);
    CHECK(moved.report->rows == call.first_end);
    if (call.lends) CHECK_FALSE(sends_.contains({call.id, serial}));
    call.memory.reset();
    ended_.push_back(call.id);
  }

  std::mt19937_64 random_;
  PayloadPool pool_;
  ExchangeTable table_;
  std::map<uint64_t, Call> calls_;  // by serial
  std::set<Key> sends_;             // that UCX has not finished
  std::vector<Key> receives_;
  std::vector<uint64_t> sent_ids_;
  std::vector<uint64_t> ended_;
  uint64_t ends_ = 0;
};

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
