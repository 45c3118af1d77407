// Dispatcher: what became of what was sent, and what the control thread tells.
#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "client/dispatcher.h"
#include "transport/errors.h"

namespace latentd {
namespace {

// After a failed attempt to open a session, requests to the node fail at once for this long.
constexpr uint64_t kSessionBackoffNs = 100'000'000;
// A holder that says when to come again is left alone until then, but no longer than this.
constexpr uint64_t kMostAvoidedNs = 1'000'000'000;

}  // namespace

void Dispatcher::OnResult(ExchangeResult result) {
  const auto found = exchanges_.find(result.id);
  if (found == exchanges_.end()) return;
  Request request = std::move(found->second);
  exchanges_.erase(found);
  if (request.timer_ns != kNever) timers_.Remove(request.timer_ns, result.id);
  Account(request, result);

  const uint64_t id = request.work.operation;
  const auto owner = entries_.find(id);
  if (owner == entries_.end()) return;
  Entry& entry = *owner->second;
  entry.exchanges.erase(std::find(entry.exchanges.begin(), entry.exchanges.end(), result.id));
  entry.operation->bytes_sent += result.bytes_sent;
  entry.operation->bytes_received += result.bytes_received;
  if (!entry.ended.has_value() && IsWanted(request.work)) {
    if (result.status.ok()) {
      TakeAnswer(entry, std::move(request.work), std::move(result));
    } else {
      OnFailure(entry, std::move(request.work), request.record->id, result.status, &result);
    }
  }
  Settle(id, entry);
}

void Dispatcher::Account(const Request& request, const ExchangeResult& result) {
  NodeRecord& record = *request.record;
  LaneRecord& lane = record.lane(request.lane);
  lane.load.OnSettled();
  if (result.header.request_id == 0) {
    // No answer: its connection failed, or nobody waited for it any more.
    if (absl::IsUnavailable(result.status)) {
      CountFailure(record, request.sent_ns);
    } else if (request.probe) {
      record.breaker.OnProbeDropped();
    }
    return;
  }
  record.breaker.OnSuccess();
  if (absl::IsUnavailable(result.status)) {
    const uint64_t hint_ns = static_cast<uint64_t>(
        absl::ToInt64Nanoseconds(RetryAfter(result.status).value_or(absl::ZeroDuration())));
    record.avoid_until_ns = now_ns_ + std::min(hint_ns, kMostAvoidedNs);
  } else if (result.status.ok()) {
    record.avoid_until_ns = 0;
  }
  if (result.status.ok() && result.opcode == wire::Opcode::kAttend) {
    // What cannot be is not believed: a holder has not taken longer than the round trip.
    const uint64_t queue_ns = std::min(result.header.queue_ns, result.rtt_ns);
    const uint64_t compute_ns = std::min(result.header.compute_ns, result.rtt_ns);
    lane.load.OnReport(ExpectedNs({.queue_ns = queue_ns,
                                   .compute_ns = compute_ns,
                                   .batch_rows = result.header.batch_rows,
                                   .lane_rows_queued = result.header.lane_rows_queued}),
                       now_ns_);
    lane.latency.Add(result.rtt_ns);
  }
}

void Dispatcher::CountFailure(NodeRecord& record, uint64_t sent_ns) {
  const uint32_t failures = record.breaker.failures();
  const uint64_t opened = record.breaker.times_opened();
  record.breaker.OnFailure(sent_ns, now_ns_, random_());
  counters_.breakers_opened += record.breaker.times_opened() - opened;
  // What it says of the table may be as silent as itself.
  if (record.breaker.failures() > failures) control_->SuspectHolder(record.id);
}

void Dispatcher::TakeAnswer(Entry& entry, Work work, ExchangeResult result) {
  const bool retried = work.attempts.any();
  if (work.contest == nullptr) {
    absl::Status status =
        entry.operation->OnAnswer(work.items, work.tag, retried, std::move(result));
    if (!status.ok()) EndEntry(work.operation, entry, std::move(status));
    return;
  }
  Contest& contest = *work.contest;
  contest.answers[work.side].push_back(
      {std::move(work.items), work.tag, retried, std::move(result)});
  if (contest.race.Answered(work.side)) Win(entry, contest, work.side);
}

void Dispatcher::GiveUp(Entry& entry, const Work& work, absl::Status status) {
  status = StatusOfBothHolders(work.first_holder_said, status);
  const Items* items = &work.items;
  if (Contest* contest = work.contest.get(); contest != nullptr) {
    contest->said[work.side] = std::move(status);
    const bool other_runs = contest->race.Failed(work.side);
    contest->answers[work.side].clear();
    DropSide(entry, *contest, work.side);
    if (other_runs) return;
    status = StatusOfBothHolders(contest->said[Race::kFirst], contest->said[Race::kSecond]);
    items = &contest->items;
  }
  if (!entry.operation->Tolerates(*items, status))
    EndEntry(work.operation, entry, std::move(status));
}

void Dispatcher::OnFailure(Entry& entry, Work work, const NodeId& node, const absl::Status& status,
                           const ExchangeResult* result) {
  if (IsWrongGeneration(status) && result != nullptr) {
    // The session is one with a daemon that is no more.
    refused_.insert(node);
    if (const SessionInfo* session = path_->FindSession(node);
        session != nullptr && session->token == result->token) {
      path_->DropSession(node,
                         absl::UnavailableError(absl::StrCat("node ", node, " has restarted")));
    }
  }
  Work next = work;
  next.asked.clear();
  next.lost_primary.clear();
  next.patience_ns = 0;
  next.request_id = result == nullptr ? work.request_id : result->request_id;
  if (absl::IsNotFound(status) && !work.at.empty() && work.items.size() > 1) {
    // A holder leases all or none: what it has, without what it has lost.
    for (const uint32_t item : work.items) {
      next.items = {item};
      Launch(next);
      next.request_id = 0;
      if (entry.ended.has_value()) return;
    }
    return;
  }
  Failure failure{.status = status};
  if (result != nullptr) {
    failure.sent_epoch = result->sent_epoch;
    failure.holder_epoch = static_cast<Epoch>(result->header.epoch);
  }
  next.excluded.push_back(node);
  // Of two attempts, the other is with another holder already.
  failure.other_holder =
      work.contest == nullptr && HasHolders(*entry.operation, next, /*ready=*/false);
  failure.of_primary = entry.operation->fixed_holder() == nullptr &&
                       entry.operation->placement() == Placement::kPrimary;
  const NextStep step = DecideRetry(failure, work.attempts);
  if (step == NextStep::kOtherHolder) {
    next.excluded_by = table_->epoch();
  } else {
    next.excluded.pop_back();
  }
  next.attempts = After(step, failure, work.attempts);
  switch (step) {
    case NextStep::kGiveUp:
      GiveUp(entry, work, PrefixStatus(StatusForCaller(status), absl::StrCat("node ", node)));
      return;
    case NextStep::kRefreshTable:
      next.min_epoch = failure.holder_epoch;
      control_->RefreshTable(node, failure.holder_epoch);
      break;
    case NextStep::kWaitForHolder:
      next.not_before_ns = now_ns_ + HolderWaitNs(work.attempts);
      break;
    case NextStep::kAwaitPrimary:
      // One that cannot answer may be the one that tables come from.
      control_->SuspectHolder(node);
      if (HasPrimary(entry, next, node)) {
        next.lost_primary = node;
        next.not_before_ns = now_ns_ + PrimaryWaitNs(work.attempts);
      }
      break;
    case NextStep::kAskHolder:
      next.asked = node;
      if (asking_.insert(node).second) control_->AskHolder(node);
      break;
    case NextStep::kReopenSession:
      // Only the session that was refused: there may be a newer one by now.
      if (const SessionInfo* session = path_->FindSession(node);
          session == nullptr || (result != nullptr && session->token == result->token)) {
        // In doubt only: a daemon that took us for dead closed the connection, not the session. If
        // it is over, its renewal says so.
        path_->DropSession(
            node, absl::UnauthenticatedError(absl::StrCat("node ", node, ": its session is over")));
      }
      break;
    case NextStep::kOtherHolder:
      next.first_holder_said = PrefixStatus(status, absl::StrCat("node ", node));
      break;
  }
  Launch(std::move(next));
}

void Dispatcher::OnEvent(ControlEvent event) {
  std::visit([this](const auto& e) { On(e); }, event);
}

void Dispatcher::On(const TableChanged& event) {
  table_ = event.table;
  records_.Keep(*table_);
  for (Work& work : parked_) {
    const Entry* entry = FindLive(work.operation);
    if (entry == nullptr || work.lost_primary.empty()) continue;
    if (!HasPrimary(*entry, work, work.lost_primary)) work.not_before_ns = 0;
  }
}

void Dispatcher::On(const SessionOpened& event) {
  const SessionInfo& session = event.session;
  opening_.erase(session.node);
  if (HashLayout(session.layout) != options_.layout) {
    failures_[session.node] = {
        LayoutMismatchError(absl::StrCat("it holds ", ToString(session.layout))),
        now_ns_ + kSessionBackoffNs};
    return;
  }
  refused_.erase(session.node);
  failures_.erase(session.node);
  path_->SetSession(session);
}

void Dispatcher::On(const SessionFailed& event) {
  opening_.erase(event.node);
  failures_[event.node] = {event.status, now_ns_ + kSessionBackoffNs};
  // A refusal is an answer.
  if (absl::IsUnavailable(event.status)) CountFailure(records_.At(event.node), now_ns_);
}

void Dispatcher::On(const SessionLost& event) {
  const SessionInfo* session = path_->FindSession(event.node);
  if (session == nullptr || !(session->token == event.token)) return;
  path_->DropSession(event.node, absl::UnauthenticatedError(
                                     absl::StrCat("node ", event.node, ": its session is over")));
}

}  // namespace latentd
