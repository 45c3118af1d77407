#include "daemon/etcd/etcd_request.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/etcd/etcd_errors.h"

namespace latentd {
namespace {

// Before asking members again that have all failed.
absl::Duration Pause(uint32_t rounds) {
  return std::min(absl::Milliseconds(500), absl::Milliseconds(25) * (1 << std::min(rounds, 10u)));
}

}  // namespace

EtcdRequest::EtcdRequest(const EtcdConnection& connection, What what)
    : connection_(connection), what_(std::move(what)), problems_(connection.members->size()) {}

template <typename... Arguments>
auto EtcdRequest::IfStill(void (EtcdRequest::*closure)(Arguments...)) {
  return [weak = weak_from_this(), step = step_, closure](Arguments... arguments) {
    const auto self = weak.lock();
    if (self != nullptr && self->step_ == step) ((*self).*closure)(arguments...);
  };
}

void EtcdRequest::Start() {
  deadline_ = connection_.loop->now() + what_.timeout;
  connection_.loop->Post(IfStill(&EtcdRequest::Try));
}

void EtcdRequest::Try() {
  const absl::Duration left = deadline_ - connection_.loop->now();
  if (left <= absl::ZeroDuration()) return GiveUp();
  ++step_;
  rpc_ = nullptr;
  sent_ = false;
  member_ = connection_.members->current();
  // Each member that was not tried in this round gets its share of the time.
  const size_t members = connection_.members->size();
  const size_t untried = members - tries_ % members;
  ++tries_;
  timer_ = connection_.loop->After(left / static_cast<int64_t>(untried),
                                   IfStill(&EtcdRequest::TimeIsOver));
  connection_.tokens->Get(member_, [weak = weak_from_this(), step = step_](
                                       const grpc::Status& status, const std::string& token) {
    const auto self = weak.lock();
    if (self == nullptr || self->step_ != step) return;
    if (!status.ok()) return self->HearOf(status, /*sent=*/false);
    self->token_ = token;
    self->CheckConnection();
  });
}

// gRPC does not tell of a call without an answer whether it waits for a connection or was sent. What
// must not be done twice depends on it: that is sent only where something harmless was answered.
void EtcdRequest::CheckConnection() {
  const EtcdMember& member = (*connection_.members)[member_];
  if (what_.repeatable || member.channel->GetState(/*try_to_connect=*/true) == GRPC_CHANNEL_READY) {
    return Send();
  }
  etcdserverpb::RangeRequest request;
  request.set_key(std::string(1, '\0'));
  request.set_serializable(true);
  rpc_ = connection_.rpcs->Unary<etcdserverpb::RangeResponse>(
      {.token = token_}, std::move(request),
      [stub = member.kv.get()](auto... call) { stub->async()->Range(std::move(call)...); },
      [weak = weak_from_this(), step = step_](const grpc::Status& status,
                                              etcdserverpb::RangeResponse&) {
        const auto self = weak.lock();
        if (self == nullptr || self->step_ != step) return;
        const bool answered =
            status.ok() || JudgeEtcdError(status, /*sent=*/true).verdict == EtcdVerdict::kFinal;
        answered ? self->Send() : self->HearOf(status, /*sent=*/false);
      });
}

void EtcdRequest::Send() {
  sent_ = true;
  rpc_ = what_.send((*connection_.members)[member_], {.token = token_},
                    [weak = weak_from_this(), step = step_](const grpc::Status& status) {
                      const auto self = weak.lock();
                      if (self == nullptr || self->step_ != step) return;
                      self->HearOf(status, !WasNotSent(status));
                    });
}

void EtcdRequest::HearOf(const grpc::Status& status, bool sent) {
  if (status.ok()) return Finish(absl::OkStatus());
  const EtcdError error = JudgeEtcdError(status, sent);
  switch (error.verdict) {
    case EtcdVerdict::kAuthenticate:
      if (connection_.tokens->needed() && !std::exchange(renewed_token_, true)) {
        connection_.tokens->Forget(token_);
        connection_.loop->Cancel(timer_);
        --tries_;
        return Try();
      }
      return Finish(Error(error.code, status.error_message()));
    case EtcdVerdict::kMaybeDone:
      if (!what_.repeatable) {
        connection_.members->MoveOn(member_);
        return Finish(Error(absl::StatusCode::kDeadlineExceeded,
                            absl::StrCat("may have been done: ", status.error_message())));
      }
      maybe_done_ = true;
      return TryNext(status.error_message());
    case EtcdVerdict::kNextMember:
      return TryNext(status.error_message());
    case EtcdVerdict::kFinal:
    case EtcdVerdict::kNoTokensNeeded:
      return Finish(Error(error.code, status.error_message()));
  }
}

void EtcdRequest::TimeIsOver() {
  const absl::Duration left = deadline_ - connection_.loop->now();
  if (sent_ && !what_.repeatable && left > absl::ZeroDuration()) {
    // Nobody else may be asked: it has the rest of the time.
    timer_ = connection_.loop->After(left, IfStill(&EtcdRequest::TimeIsOver));
    return;
  }
  // One that may be repeated can still be waiting for a connection.
  const bool sent =
      sent_ && (!what_.repeatable || (*connection_.members)[member_].channel->GetState(
                                         /*try_to_connect=*/false) == GRPC_CHANNEL_READY);
  maybe_done_ = maybe_done_ || sent;
  if (rpc_ != nullptr) rpc_->Cancel();
  TryNext(sent ? "no answer in time" : "not reached in time");
}

void EtcdRequest::TryNext(const std::string& problem) {
  ++step_;
  connection_.loop->Cancel(timer_);
  problems_[member_] = problem;
  connection_.members->MoveOn(member_);
  const uint32_t rounds = tries_ / static_cast<uint32_t>(connection_.members->size());
  if (tries_ % connection_.members->size() != 0) return Try();
  // A token of an etcd that has lost its data is not refused: members wait until they have come as far
  // as when it was made.
  if (connection_.tokens->needed()) connection_.tokens->Forget(token_);
  const absl::Duration left = deadline_ - connection_.loop->now();
  timer_ = connection_.loop->After(std::min(left, Pause(rounds)), IfStill(&EtcdRequest::Try));
}

void EtcdRequest::GiveUp() {
  std::string all;
  for (size_t i = 0; i < problems_.size(); ++i) {
    if (problems_[i].empty()) continue;
    absl::StrAppend(&all, all.empty() ? "" : "; ", (*connection_.members)[i].endpoint, ": ",
                    problems_[i]);
  }
  Finish(absl::Status(
      maybe_done_ ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kUnavailable,
      absl::StrCat("etcd: ", what_.name, ": no member answered within ",
                   absl::FormatDuration(what_.timeout), " (", all, ")")));
}

void EtcdRequest::Finish(absl::Status status) {
  ++step_;
  connection_.loop->Cancel(timer_);
  rpc_ = nullptr;
  // What it holds may be the owner of this.
  const auto self = shared_from_this();
  std::exchange(what_.done, nullptr)(std::move(status));
}

absl::Status EtcdRequest::Error(absl::StatusCode code, const std::string& problem) const {
  const std::string user =
      connection_.user.empty() ? "" : absl::StrCat(" as user '", connection_.user, "'");
  return absl::Status(code, absl::StrCat("etcd ", (*connection_.members)[member_].endpoint, ": ",
                                         what_.name, user, ": ", problem));
}

}  // namespace latentd
