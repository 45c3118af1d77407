#include "daemon/replication/replication.h"

#include <algorithm>
#include <utility>

#include "daemon/process/log.h"

namespace latentd {
namespace {

constexpr absl::Duration kNoteEvery = absl::Milliseconds(200);
// For one list or range, however slow the network is: a node that is silent is found out earlier.
constexpr absl::Duration kAnswerPatience = absl::Seconds(30);

}  // namespace

absl::StatusOr<std::unique_ptr<Replication>> Replication::Create(ReplicationOptions options) {
  auto thread = PeerThread::Create({.self = options.self,
                                    .tls = options.tls,
                                    .transports = options.transports,
                                    .layout = options.layout,
                                    .ping_after = options.ping_after,
                                    .dead_after = options.dead_after});
  if (!thread.ok()) return thread.status();
  return std::unique_ptr<Replication>(new Replication(std::move(options), *std::move(thread)));
}

Replication::Replication(ReplicationOptions options, std::unique_ptr<PeerThread> thread)
    : options_(std::move(options)),
      thread_(std::move(thread)),
      forwarder_(
          {.self = options_.self, .layout = options_.layout}, thread_.get(),
          [this](const ChunkId& chunk, uint32_t tokens, uint64_t checksum) {
            Repair(chunk, tokens, checksum);
          },
          [this](MissedWrite missed) { membership_->ReportMissed(std::move(missed)); }),
      remote_(thread_.get(), kAnswerPatience) {}

Replication::~Replication() { Stop(); }

void Replication::Start(std::vector<Lane*> lanes, Membership* membership) {
  membership_ = membership;
  local_ = std::make_unique<LaneChunks>(thread_.get(), std::move(lanes));
  sync_ = std::make_unique<SlotSync>(SlotSyncOptions{.self = options_.self, .copy = options_.copy},
                                     options_.layout, thread_.get(), &remote_, local_.get(),
                                     [this, membership](std::vector<SlotClaim> claims) {
                                       membership->Claim(std::move(claims));
                                       Note();
                                     });
  thread_->Start();
}

void Replication::SetTable(TablePtr table) {
  thread_->Post([this, table = std::move(table)] { TakeTable(table); });
}

void Replication::Stop() {
  thread_->Stop([this] {
    forwarder_.StopWaiting();
    sync_.reset();
  });
}

ReplicationStatus Replication::status() const {
  ReplicationStatus status{.forward = forwarder_.stats()};
  const std::lock_guard<std::mutex> lock(mutex_);
  status.sync = progress_;
  status.copied_per_second = copy_rate_.per_second();
  return status;
}

void Replication::TakeTable(const TablePtr& table) {
  thread_->client().SetTable(table);
  forwarder_.SetTable(table);
  if (sync_ == nullptr) return;
  const uint32_t before = sync_->progress().joining;
  sync_->SetTable(table);
  const SlotSyncProgress progress = sync_->progress();
  if (progress.joining != before) {
    LogInfo("slots to copy", {{"epoch", ToInt(table->epoch())},
                              {"joining", progress.joining},
                              {"claimed", progress.claimed}});
  }
  Note();
}

void Replication::Repair(const ChunkId& chunk, uint32_t tokens, uint64_t checksum) {
  if (sync_ == nullptr) return;
  LogWarn("a damaged chunk is to be fetched from another holder", {{"chunk", ToString(chunk)}});
  sync_->Repair({.id = chunk, .sealed = true, .tokens = tokens, .checksum = checksum});
  Note();
}

void Replication::Note() {
  const SlotSyncProgress progress = sync_->progress();
  const bool active =
      progress.copies > 0 || progress.claimed < progress.joining || progress.damaged > 0;
  const absl::Time now = thread_->now();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const absl::Duration passed = now - noted_at_;
    if (passed >= kNoteEvery || !active) {
      copy_rate_.Note(progress.counts.bytes, active, now);
      noted_at_ = now;
      progress_ = progress;
    }
  }
  if (!active || noting_) return;
  noting_ = true;
  thread_->After(kNoteEvery, [this] {
    noting_ = false;
    if (sync_ != nullptr) Note();
  });
}

}  // namespace latentd
