#include "daemon/etcd/etcd_watcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/etcd/etcd_errors.h"
#include "daemon/etcd/etcd_messages.h"

namespace latentd {

namespace pb = etcdserverpb;

namespace {

constexpr int64_t kNoWatch = -1;  // the answer to a progress request

// Before connecting again, once every member has failed.
absl::Duration Pause(uint32_t rounds) {
  return std::min(absl::Seconds(1), absl::Milliseconds(25) * (1 << std::min(rounds, 10u)));
}

}  // namespace

EtcdWatcher::EtcdWatcher(const EtcdConnection& connection, absl::Duration silence,
                         std::shared_ptr<EtcdWatchers> watchers, std::string prefix,
                         int64_t revision, OnEvents on_events, OnEnd on_end)
    : connection_(connection),
      silence_(silence),
      watchers_(std::move(watchers)),
      prefix_(std::move(prefix)),
      next_revision_(std::max<int64_t>(1, revision)),
      on_events_(std::move(on_events)),
      on_end_(std::move(on_end)) {
  watchers_->open.insert(this);
  SetTimer(absl::ZeroDuration(), &EtcdWatcher::Connect);
}

EtcdWatcher::~EtcdWatcher() { Close(); }

void EtcdWatcher::Close() {
  present_ = nullptr;
  on_events_ = nullptr;
  on_end_ = nullptr;
  if (stream_ != nullptr) std::exchange(stream_, nullptr)->Cancel();
  if (watchers_->open.erase(this) > 0) connection_.loop->Cancel(timer_);
}

void EtcdWatcher::SetTimer(absl::Duration delay, void (EtcdWatcher::*closure)()) {
  connection_.loop->Cancel(timer_);
  timer_ = connection_.loop->After(delay, [this, closure, weak = std::weak_ptr<char>(present_)] {
    if (!weak.expired()) (this->*closure)();
  });
}

void EtcdWatcher::Connect() {
  present_ = std::make_shared<char>();
  untold_.clear();
  member_ = connection_.members->current();
  SetTimer(silence_, &EtcdWatcher::MoveOn);
  connection_.tokens->Get(member_, [this, weak = std::weak_ptr<char>(present_)](
                                       const grpc::Status& status, const std::string& token) {
    if (weak.expired()) return;
    if (status.ok()) {
      Open(token);
    } else {
      HearError(JudgeEtcdError(status, /*sent=*/false), status.error_message());
    }
  });
}

void EtcdWatcher::Open(const std::string& token) {
  token_ = token;
  const std::weak_ptr<char> weak = present_;
  stream_ = connection_.rpcs->Open<pb::WatchRequest, pb::WatchResponse>(
      {.token = token},
      [stub = (*connection_.members)[member_].watch.get()](auto* context, auto* reactor) {
        stub->async()->Watch(context, reactor);
      },
      [this, weak](pb::WatchResponse& response) {
        if (!weak.expired()) Hear(response);
      },
      [this, weak](const grpc::Status& status) {
        if (weak.expired()) return;
        if (status.ok()) return MoveOn();
        HearError(JudgeEtcdError(status, /*sent=*/true), status.error_message());
      });
  EtcdRange range = RangeOfPrefix(prefix_);
  pb::WatchRequest request;
  pb::WatchCreateRequest& create = *request.mutable_create_request();
  create.set_key(std::move(range.key));
  create.set_range_end(std::move(range.end));
  create.set_start_revision(next_revision_);
  create.set_progress_notify(true);
  create.set_fragment(true);
  stream_->Write(std::move(request));
}

void EtcdWatcher::Hear(pb::WatchResponse& response) {
  SetTimer(silence_, &EtcdWatcher::AskForSign);
  if (response.canceled()) return HearCancel(response);
  if (response.created()) {
    failures_ = 0;
    renewed_token_ = false;
    return;
  }
  // A sign of life. Its revision means nothing to this watch: etcd before 3.4.25 may send it ahead
  // of events of that very revision.
  if (response.watch_id() == kNoWatch) return;
  for (auto& event : *response.mutable_events()) untold_.push_back(FromEvent(std::move(event)));
  if (response.fragment()) return;
  if (!untold_.empty()) return Tell();
  // A progress notification, in its place among the events.
  const int64_t revision = response.header().revision();
  if (revision < next_revision_) return;
  next_revision_ = revision + 1;
  const auto on_events = on_events_;
  on_events(revision, {});
}

// Revision by revision: all events of one come in one answer.
void EtcdWatcher::Tell() {
  const std::weak_ptr<char> weak = present_;
  const auto on_events = on_events_;
  const std::vector<EtcdEvent> events = std::exchange(untold_, {});
  for (auto first = events.begin(); first != events.end() && !weak.expired();) {
    const int64_t revision = first->entry.mod_revision;
    const auto last = std::find_if(first, events.end(), [revision](const EtcdEvent& event) {
      return event.entry.mod_revision != revision;
    });
    next_revision_ = revision + 1;
    on_events(revision, {first, last});
    first = last;
  }
}

void EtcdWatcher::HearCancel(const pb::WatchResponse& response) {
  if (response.compact_revision() > 0) {
    return End(absl::StatusCode::kOutOfRange,
               absl::StrCat("revision ", next_revision_, " was compacted; the oldest is ",
                            response.compact_revision()));
  }
  EtcdError error = JudgeCancelReason(response.cancel_reason());
  // etcd 3.4 says the same of a token that it does not know.
  if (error.code == absl::StatusCode::kPermissionDenied && connection_.tokens->needed() &&
      !renewed_token_) {
    error.verdict = EtcdVerdict::kAuthenticate;
  }
  HearError(error, response.cancel_reason());
}

void EtcdWatcher::HearError(const EtcdError& error, const std::string& problem) {
  switch (error.verdict) {
    case EtcdVerdict::kNextMember:
    case EtcdVerdict::kMaybeDone:
      return MoveOn();
    case EtcdVerdict::kAuthenticate:
      if (!connection_.tokens->needed() || std::exchange(renewed_token_, true)) break;
      connection_.tokens->Forget(token_);
      if (stream_ != nullptr) std::exchange(stream_, nullptr)->Cancel();
      return Connect();
    case EtcdVerdict::kFinal:
    case EtcdVerdict::kNoTokensNeeded:
      break;
  }
  End(error.code, problem);
}

void EtcdWatcher::AskForSign() {
  pb::WatchRequest request;
  request.mutable_progress_request();
  stream_->Write(std::move(request));
  SetTimer(silence_, &EtcdWatcher::MoveOn);
}

void EtcdWatcher::MoveOn() {
  present_ = std::make_shared<char>();
  if (stream_ != nullptr) std::exchange(stream_, nullptr)->Cancel();
  connection_.members->MoveOn(member_);
  const auto members = static_cast<uint32_t>(connection_.members->size());
  const uint32_t rounds = ++failures_ / members;
  SetTimer(failures_ % members == 0 ? Pause(rounds) : absl::ZeroDuration(), &EtcdWatcher::Connect);
}

void EtcdWatcher::End(absl::StatusCode code, const std::string& problem) {
  const std::string user =
      connection_.user.empty() ? "" : absl::StrCat(" as user '", connection_.user, "'");
  const auto on_end = on_end_;
  const std::string endpoint = (*connection_.members)[member_].endpoint;
  Close();
  on_end(absl::Status(
      code, absl::StrCat("etcd ", endpoint, ": watch of '", prefix_, "'", user, ": ", problem)));
}

}  // namespace latentd
