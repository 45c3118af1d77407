#include "daemon/membership/etcd_membership.h"

#include <algorithm>
#include <condition_variable>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/process/log.h"
#include "routing/layout_proto.h"

namespace latentd {
namespace {

constexpr absl::Duration kSnapshotAfter = absl::Milliseconds(10);
constexpr absl::Duration kLookEvery = absl::Seconds(1);
constexpr std::chrono::seconds kLeavePatience(2);

// One closure that is waited for.
class Event {
 public:
  void Set() {
    const std::lock_guard<std::mutex> lock(mutex_);
    set_ = true;
    changed_.notify_all();
  }
  void WaitFor(std::chrono::seconds time) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, time, [this] { return set_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
};

}  // namespace

EtcdMembership::EtcdMembership(EtcdMembershipOptions options) : options_(std::move(options)) {
  fence_.ServeUntil(absl::UnixEpoch(), FenceReason::kNotJoined);
}

EtcdMembership::~EtcdMembership() { Stop(); }

absl::Status EtcdMembership::Start(NodeInfo self, TableCallback on_table) {
  absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Start("membership");
  if (!loop.ok()) return loop.status();
  loop_ = *std::move(loop);
  absl::StatusOr<std::unique_ptr<EtcdClient>> etcd = EtcdClient::Make(loop_.get(), options_.etcd);
  if (!etcd.ok()) return etcd.status();
  etcd_ = *std::move(etcd);
  loop_->Post([this, self = std::move(self), on_table = std::move(on_table)]() mutable {
    StartNode(std::move(self), std::move(on_table));
  });
  return absl::OkStatus();
}

void EtcdMembership::StartNode(NodeInfo self, TableCallback on_table) {
  snapshot_ = std::make_unique<Timer>(loop_.get(), [this] { TakeSnapshot(); });
  look_ = std::make_unique<Timer>(loop_.get(), [this] { Look(); });
  look_->Set(kLookEvery);
  exchange_ = std::make_unique<CostExchange>(
      etcd_.get(), loop_.get(), ClusterKeys(options_.cluster), self.id, [this] {
        std::vector<v1::NodeCosts> costs = exchange_->nodes();
        const std::lock_guard<std::mutex> lock(mutex_);
        costs_ = std::move(costs);
      });
  exchange_->Start();
  const uint64_t seed = ToInt(self.generation) ^ static_cast<uint64_t>(absl::GetCurrentTimeNanos());
  node_ = std::make_unique<ClusterNode>(
      etcd_.get(), loop_.get(),
      ClusterNodeOptions{.self = std::move(self),
                         .cluster = options_.cluster,
                         .layout = ToProto(options_.layout),
                         .lanes = options_.lanes,
                         .version = options_.version,
                         .started_unix_ms = absl::ToUnixMillis(absl::Now()),
                         .ttl = options_.lease,
                         .replicas = options_.replicas,
                         .seed = seed},
      &fence_,
      ClusterNode::Callbacks{.on_table =
                                 [this, on_table = std::move(on_table)](const TablePtr& table) {
                                   {
                                     const std::lock_guard<std::mutex> lock(mutex_);
                                     table_ = table;
                                   }
                                   on_table(table);
                                 },
                             .on_change = [this] { snapshot_->Set(kSnapshotAfter); }});
  node_->Start();
}

void EtcdMembership::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(stopped_, true)) return;
  }
  if (loop_ == nullptr) return;
  auto left = std::make_shared<Event>();
  loop_->Post([this, left] {
    if (node_ == nullptr) return left->Set();
    node_->Leave([left] { left->Set(); });
  });
  left->WaitFor(kLeavePatience);
  loop_->Stop();
  exchange_.reset();
  node_.reset();
  snapshot_.reset();
  look_.reset();
  etcd_.reset();
}

TablePtr EtcdMembership::table() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return table_;
}

std::vector<Member> EtcdMembership::ListNodes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return members_;
}

ClusterNodeStatus EtcdMembership::status() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

std::optional<AuthorityStatus> EtcdMembership::authority() const {
  ClusterNodeStatus now = status();
  // The fence moves on with every keep-alive, and closes without anybody's doing.
  return AuthorityStatus{
      .registered = now.registered,
      .lease = now.lease,
      .serves_for = std::max(fence_.until() - ServingFence::Now(), absl::ZeroDuration()),
      .coordinator = std::move(now.coordinator),
      .coordinator_since = now.coordinator_since,
      .coordinates = now.coordinates,
      .troubles = std::move(now.troubles)};
}

void EtcdMembership::SetDraining(bool draining) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopped_ || loop_ == nullptr) return;
  loop_->Post([this, draining] { node_->SetDraining(draining); });
}

void EtcdMembership::Claim(std::vector<SlotClaim> claims) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopped_ || loop_ == nullptr) return;
  loop_->Post([this, claims = std::move(claims)] { node_->Claim(claims); });
}

void EtcdMembership::ReportMissed(MissedWrite missed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopped_ || loop_ == nullptr) return;
  loop_->Post([this, missed = std::move(missed)] { node_->ReportMissed(missed); });
}

void EtcdMembership::PublishCosts(v1::NodeCosts costs) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopped_ || loop_ == nullptr) return;
  loop_->Post([this, costs = std::move(costs)]() mutable { exchange_->Publish(std::move(costs)); });
}

std::vector<v1::NodeCosts> EtcdMembership::costs() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return costs_;
}

void EtcdMembership::Look() {
  look_->Set(kLookEvery);
  LogFence();
  if (!trouble_log_.empty()) TakeSnapshot();
}

void EtcdMembership::TakeSnapshot() {
  ClusterNodeStatus status = node_->status();
  std::vector<Member> members = node_->ListNodes();
  exchange_->SetLease(status.registered ? EtcdLease{status.lease} : EtcdLease{});
  LogChanges(status_, status);  // nobody else writes status_
  LogFence();
  const std::lock_guard<std::mutex> lock(mutex_);
  status_ = std::move(status);
  members_ = std::move(members);
}

void EtcdMembership::LogChanges(const ClusterNodeStatus& before, const ClusterNodeStatus& now) {
  if (before.registered != now.registered) {
    LogInfo(now.registered ? "registered at etcd" : "no longer registered at etcd",
            {{"lease", absl::StrCat(absl::Hex(now.lease))}});
  }
  if (before.coordinator != now.coordinator) {
    LogInfo("coordinator changed", {{"from", before.coordinator}, {"to", now.coordinator}});
  }
  for (const TroubleLine& line :
       trouble_log_.Observe(now.etcd_trouble, now.troubles, ServingFence::Now())) {
    if (line.over) {
      LogInfo("membership trouble is over",
              {{"trouble", line.trouble}, {"lasted", absl::FormatDuration(line.lasted)}});
    } else {
      LogWarn("membership", {{"trouble", line.trouble}});
    }
  }
}

void EtcdMembership::LogFence() {
  const bool open = !fence_.closed();
  if (open == fence_was_open_) return;
  fence_was_open_ = open;
  const absl::Time now = ServingFence::Now();
  if (!open) {
    fence_closed_at_ = now;
    const bool as_asked = fence_.reason() == FenceReason::kLeft;
    LogEvent(as_asked ? LogSeverity::kInfo : LogSeverity::kWarn,
             "fence closed: this node answers nothing about chunks",
             {{"because", absl::StrCat("it ", FenceReasonText(fence_.reason()))}});
  } else if (fence_closed_at_ == absl::InfinitePast()) {
    LogInfo("fence open: this node may answer");
  } else {
    LogInfo("fence open: this node may answer again",
            {{"closed_for",
              absl::FormatDuration(absl::Trunc(now - fence_closed_at_, absl::Milliseconds(1)))}});
  }
}

}  // namespace latentd
