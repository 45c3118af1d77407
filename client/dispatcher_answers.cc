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
// How long a holder whose table is older than ours is given.
constexpr uint64_t kHolderLagNs = 5'000'000;

}  // namespace

void Dispatcher::OnResult(ExchangeResult result) {
  const auto found = exchanges_.find(result.id);
  if (found == exchanges_.end()) return;
  Work work = std::move(found->second);
  exchanges_.erase(found);
  const uint64_t id = work.operation;
  const auto owner = entries_.find(id);
  if (owner == entries_.end()) return;
  Entry& entry = *owner->second;
  entry.exchanges.erase(std::find(entry.exchanges.begin(), entry.exchanges.end(), result.id));
  entry.operation->bytes_sent += result.bytes_sent;
  entry.operation->bytes_received += result.bytes_received;

  if (!entry.ended.has_value()) {
    if (result.status.ok()) {
      absl::Status status =
          entry.operation->OnAnswer(work.items, work.tag, work.attempts.any(), std::move(result));
      if (!status.ok()) EndEntry(id, entry, std::move(status));
    } else {
      const NodeId node = result.node;
      const absl::Status status = result.status;
      OnFailure(entry, std::move(work), node, status, &result);
    }
  }
  Settle(id, entry);
}

void Dispatcher::OnFailure(Entry& entry, Work work, const NodeId& node, const absl::Status& status,
                           const ExchangeResult* result) {
  Failure failure{.status = status, .other_holder = true};
  if (result != nullptr) {
    failure.sent_epoch = result->sent_epoch;
    failure.holder_epoch = static_cast<Epoch>(result->header.epoch);
  }
  Work next = work;
  next.asked.clear();
  next.excluded.push_back(node);
  for (const uint32_t item : work.items) {
    if (!Choose(*entry.operation, item, next).has_value()) failure.other_holder = false;
  }
  const NextStep step = DecideRetry(failure, work.attempts);
  if (step != NextStep::kOtherHolder) next.excluded.pop_back();
  next.attempts = After(step, work.attempts);
  next.reuse_id = result == nullptr ? 0 : result->id;
  if (IsWrongGeneration(status) && result != nullptr) {
    // The session is one with a daemon that is no more.
    refused_.insert(node);
    if (const SessionInfo* session = path_->FindSession(node);
        session != nullptr && session->token == result->token) {
      path_->DropSession(node,
                         absl::UnavailableError(absl::StrCat("node ", node, " has restarted")));
    }
  }
  switch (step) {
    case NextStep::kGiveUp: {
      const absl::Status told = PrefixStatus(StatusForCaller(status), absl::StrCat("node ", node));
      const absl::Status both = StatusOfBothHolders(work.first_holder_said, told);
      if (!entry.operation->Tolerates(work.items, both)) EndEntry(work.operation, entry, both);
      return;
    }
    case NextStep::kRefreshTable:
      next.min_epoch = failure.holder_epoch;
      control_->RefreshTable(node, failure.holder_epoch);
      break;
    case NextStep::kWaitForHolder:
      next.not_before_ns = now_ns_ + kHolderLagNs;
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

void Dispatcher::On(const SessionOpened& event) {
  const SessionInfo& session = event.session;
  opening_.erase(session.node);
  if (HashLayout(session.layout) != layout_) {
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
}

void Dispatcher::On(const SessionLost& event) {
  const SessionInfo* session = path_->FindSession(event.node);
  if (session == nullptr || !(session->token == event.token)) return;
  path_->DropSession(event.node, absl::UnauthenticatedError(
                                     absl::StrCat("node ", event.node, ": its session is over")));
}

}  // namespace latentd
