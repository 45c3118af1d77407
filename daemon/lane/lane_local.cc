// What this node has copied from others comes in, and it is told what it has. Bounded in each turn:
// requesters come first.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "transport/errors.h"

namespace latentd {
namespace {

// Records are checked, copied and hashed: 4 MiB take a millisecond or two.
constexpr uint64_t kLocalBytesPerTurn = uint64_t{4} << 20;

absl::Status Stopped() { return absl::UnavailableError("the lane has stopped"); }

}  // namespace

void LaneImpl::PostLocal(LocalWork work) {
  // Shared, because a closed mailbox keeps nothing of what it is given.
  auto shared = std::make_shared<LocalWork>(std::move(work));
  const bool posted = mailbox_->Post([this, shared] { local_work_.push_back(std::move(*shared)); });
  if (!posted) (*shared)(Stopped());
}

bool LaneImpl::DoLocalWork() {
  if (local_work_.empty()) return false;
  for (uint64_t bytes = 0; !local_work_.empty() && bytes < kLocalBytesPerTurn;) {
    const LocalWork work = std::move(local_work_.front());
    local_work_.pop_front();
    bytes += work(device_status_);
  }
  return true;
}

void LaneImpl::FailLocalWork() {
  while (!local_work_.empty()) {
    const LocalWork work = std::move(local_work_.front());
    local_work_.pop_front();
    work(Stopped());
  }
}

absl::Status LaneImpl::CheckCopy(const ChunkId& chunk, Epoch placed) const {
  const Slot slot = chunk.slot();
  if (slots_ != nullptr && slots_->RoleOf(slot) != SlotRole::kNone &&
      slots_->PlacedOf(slot) == placed) {
    return absl::OkStatus();
  }
  return WrongEpochError(absl::StrCat("chunk ", ToString(chunk), ": slot ", ToInt(slot),
                                      " is not placed here since epoch ", ToInt(placed),
                                      " any more"));
}

void LaneImpl::PublishLocal(LocalRecords records, Done done) {
  PostLocal([this, records, done = std::move(done)](const absl::Status& alive) -> uint64_t {
    if (!alive.ok()) return done(alive), 0;
    absl::Status s = CheckCopy(records.chunk, records.placed);
    if (!s.ok()) return done(std::move(s)), 0;
    done(Judge(
        store_->Publish(records.chunk, records.range, records.records, kNodeSession, SteadyNow())));
    return records.records.size();
  });
}

void LaneImpl::SealLocal(ChunkId chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                         Done done) {
  PostLocal([this, chunk, tokens, checksum, placed,
             done = std::move(done)](const absl::Status& alive) -> uint64_t {
    absl::Status s = alive.ok() ? CheckCopy(chunk, placed) : alive;
    if (s.ok()) s = store_->Seal(chunk, tokens, checksum, SteadyNow());
    done(std::move(s));
    return 0;
  });
}

void LaneImpl::DropLocal(ChunkId chunk, Epoch placed, Done done) {
  PostLocal([this, chunk, placed, done = std::move(done)](const absl::Status& alive) -> uint64_t {
    absl::Status s = alive.ok() ? CheckCopy(chunk, placed) : alive;
    if (s.ok()) store_->DropOpen(chunk);
    done(std::move(s));
    return 0;
  });
}

void LaneImpl::DiscardLocal(ChunkId chunk, Epoch placed, Done done) {
  PostLocal([this, chunk, placed, done = std::move(done)](const absl::Status& alive) -> uint64_t {
    absl::Status s = alive.ok() ? CheckCopy(chunk, placed) : alive;
    if (s.ok() && slots_->RoleOf(chunk.slot()) != SlotRole::kJoining) {
      s = absl::FailedPreconditionError(absl::StrCat(
          "chunk ", ToString(chunk), ": this node holds slot ", ToInt(chunk.slot()), " already"));
    }
    if (s.ok()) store_->Discard(chunk);
    done(std::move(s));
    return 0;
  });
}

void LaneImpl::MarkLostLocal(ChunkId chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                             Done done) {
  PostLocal([this, chunk, tokens, checksum, placed,
             done = std::move(done)](const absl::Status& alive) -> uint64_t {
    absl::Status s = alive.ok() ? CheckCopy(chunk, placed) : alive;
    if (s.ok()) s = store_->MarkLost(chunk, tokens, checksum);
    done(std::move(s));
    return 0;
  });
}

void LaneImpl::ListSlot(Slot slot, ChunkId after, uint32_t limit,
                        std::function<void(ChunkListing)> done) {
  PostLocal(
      [this, slot, after, limit, done = std::move(done)](const absl::Status& alive) -> uint64_t {
        done(alive.ok() ? store_->ListSlot(slot, after, limit, /*quarantined=*/false, SteadyNow())
                        : ChunkListing{});
        return 0;
      });
}

void LaneImpl::StatLocal(std::vector<ChunkId> chunks,
                         std::function<void(std::vector<std::optional<ChunkInfo>>)> done) {
  PostLocal([this, chunks = std::move(chunks),
             done = std::move(done)](const absl::Status& alive) -> uint64_t {
    std::vector<std::optional<ChunkInfo>> infos(chunks.size());
    if (alive.ok()) {
      for (size_t i = 0; i < chunks.size(); ++i) infos[i] = store_->Stat(chunks[i], SteadyNow());
    }
    done(std::move(infos));
    return 0;
  });
}

}  // namespace latentd
