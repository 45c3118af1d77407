#include "daemon/membership/etcd_membership.h"

#include <algorithm>
#include <condition_variable>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"
#include "daemon/process/log.h"
#include "routing/layout_proto.h"

namespace latentd {
namespace {

constexpr absl::Duration kSnapshotAfter = absl::Milliseconds(10);
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

// Counts go up and down; the log is told of a trouble once.
bool SameButNumbers(std::string a, std::string b) {
  for (std::string* text : {&a, &b}) std::erase_if(*text, absl::ascii_isdigit);
  return a == b;
}

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
  node_.reset();
  snapshot_.reset();
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

void EtcdMembership::TakeSnapshot() {
  ClusterNodeStatus status = node_->status();
  std::vector<Member> members = node_->ListNodes();
  LogChanges(status_, status);  // nobody else writes status_
  const std::lock_guard<std::mutex> lock(mutex_);
  status_ = std::move(status);
  members_ = std::move(members);
}

void EtcdMembership::LogChanges(const ClusterNodeStatus& before, const ClusterNodeStatus& now) {
  if (before.registered != now.registered) {
    LogInfo(now.registered ? "registered at etcd" : "no longer registered at etcd",
            {{"lease", now.lease}});
  }
  if (before.coordinator != now.coordinator) {
    LogInfo("coordinator changed", {{"from", before.coordinator}, {"to", now.coordinator}});
  }
  for (const std::string& trouble : now.troubles) {
    const bool known =
        std::any_of(before.troubles.begin(), before.troubles.end(),
                    [&](const std::string& told) { return SameButNumbers(told, trouble); });
    if (!known) LogWarn("membership", {{"trouble", trouble}});
  }
}

}  // namespace latentd
