// Dispatcher: attempts that take too long, and those that run beside them. Either attempt's answer
// will do, and only one is used: see race.h.
#include <algorithm>
#include <utility>

#include "client/dispatcher.h"

namespace latentd {

void Dispatcher::OnTimer(uint64_t exchange) {
  const auto found = exchanges_.find(exchange);
  if (found == exchanges_.end()) return;
  Request& request = found->second;
  request.timer_ns = kNever;
  if (request.work.operation == 0) {
    path_->Abandon(exchange);
    return;
  }
  const bool too_long = now_ns_ >= request.give_up_ns;
  if (too_long) {
    request.give_up_ns = kNever;
    request.probe = false;
    CountFailure(*request.record, request.sent_ns);
    request.record->lane(request.lane).load.OnReport(now_ns_ - request.sent_ns, now_ns_);
    ++counters_.attempts_timed_out;
  } else {
    request.timer_ns = request.give_up_ns;
    timers_.Add(request.timer_ns, exchange);
  }
  if (!request.work.at.empty()) {
    DoWithout(exchange, request);
  } else if (request.work.contest == nullptr) {
    StartSecond(exchange, request, /*hedge=*/!too_long);
  }
}

void Dispatcher::DoWithout(uint64_t exchange, Request& request) {
  Entry* entry = FindLive(request.work.operation);
  if (entry == nullptr) return;
  Work work = request.work;
  const NodeId node = request.record->id;
  LetGo(*entry, exchange, request);
  OnFailure(*entry, std::move(work), node, absl::UnavailableError("it does not answer in time"),
            nullptr);
  Settle(entry->id, *entry);
}

void Dispatcher::StartSecond(uint64_t exchange, Request& request, bool hedge) {
  Entry* entry = FindLive(request.work.operation);
  if (entry == nullptr) return;
  Work second = request.work;
  second.excluded.push_back(request.record->id);
  second.excluded_by = table_->epoch();
  // A hedge must not cost anybody anything: neither a wait for a session nor a doubtful holder.
  if (!HasHolders(*entry->operation, second, /*ready=*/hedge)) return;
  if (hedge && !hedge_budget_.Take()) return;
  auto contest = std::make_shared<Contest>();
  contest->hedge = hedge;
  contest->items = request.work.items;
  request.work.contest = contest;
  second.contest = std::move(contest);
  second.side = Race::kSecond;
  second.request_id = path_->RequestIdOf(exchange);
  second.patience_ns = 0;
  if (hedge) {
    ++counters_.hedges_sent;
  } else {
    second.attempts.changed_holder = true;
  }
  Launch(std::move(second));
}

void Dispatcher::Win(Entry& entry, Contest& contest, Race::Side side) {
  if (contest.hedge && side == Race::kSecond) ++counters_.hedges_won;
  DropSide(entry, contest, Race::Other(side));
  for (Answer& answer : contest.answers[side]) {
    absl::Status status = entry.operation->OnAnswer(answer.items, answer.tag, answer.retried,
                                                    std::move(answer.result));
    if (!status.ok()) {
      EndEntry(entry.id, entry, std::move(status));
      break;
    }
  }
  contest.answers = {};
}

void Dispatcher::DropSide(Entry& entry, const Contest& contest, Race::Side side) {
  const auto of_side = [&](const Work& work) {
    return work.contest.get() == &contest && work.side == side;
  };
  const auto exchanges = entry.exchanges;
  for (const uint64_t id : exchanges) {
    Request& request = exchanges_.at(id);
    if (of_side(request.work)) LetGo(entry, id, request);
  }
  const size_t parked = parked_.size();
  std::erase_if(parked_, of_side);
  entry.parked -= static_cast<uint32_t>(parked - parked_.size());
}

bool Dispatcher::LetGo(Entry& entry, uint64_t exchange, Request& request) {
  if (request.timer_ns != kNever) timers_.Remove(request.timer_ns, exchange);
  request.timer_ns = kNever;
  if (!path_->LetGo(exchange)) return false;
  entry.exchanges.erase(std::find(entry.exchanges.begin(), entry.exchanges.end(), exchange));
  request.work = Work{};
  request.timer_ns = entry.deadline_ns;
  timers_.Add(request.timer_ns, exchange);
  return true;
}

}  // namespace latentd
