#include "daemon/replication/chunk_copier.h"

#include <algorithm>
#include <utility>

#include "daemon/replication/chunk_slices.h"

namespace latentd {
namespace {

// Whether the store has something else under this id: of that, the source knows better.
bool IsOtherChunk(const absl::Status& status) {
  return absl::IsAlreadyExists(status) || absl::IsFailedPrecondition(status) ||
         absl::IsInvalidArgument(status);
}

// Whether a source that says this will have the chunk at no other time either.
bool HasNoCopy(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsNotFound(status);
}

}  // namespace

ChunkCopier::ChunkCopier(const CopyOptions& options, const Layout& layout, Scheduler* scheduler,
                         PeerChunks* peers, LocalChunks* local)
    : options_(options),
      layout_(layout),
      scheduler_(scheduler),
      peers_(peers),
      local_(local),
      bucket_(options.bytes_per_second) {}

ChunkCopier::~ChunkCopier() {
  if (timer_ != TimerId{}) scheduler_->Cancel(timer_);
}

uint64_t ChunkCopier::Start(ChunkCopy copy, Done done) {
  const uint64_t id = next_id_++;
  Job& job = jobs_[id];
  job.copy = std::move(copy);
  job.done = std::move(done);
  Cut(job);
  queue_.push_back(id);
  // Not from inside the call: callers are not ready for answers yet.
  if (timer_ == TimerId{}) {
    timer_ = scheduler_->After(absl::ZeroDuration(), [this] {
      timer_ = TimerId{};
      Pump();
    });
  }
  return id;
}

void ChunkCopier::Cancel(uint64_t id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  jobs_.erase(found);
  std::erase(queue_, id);
}

void ChunkCopier::Cut(Job& job) {
  job.slices = SlicesOf(job.copy.chunk, job.copy.tokens_here, layout_, options_.range_bytes);
  for (size_t i = 0; i < job.slices.size(); ++i) job.to_do.push_back(i);
}

void ChunkCopier::Pump() {
  while (!queue_.empty() && under_way_ < options_.parallel) {
    const uint64_t id = queue_.front();
    Job& job = jobs_.at(id);
    if (job.to_do.empty()) {
      queue_.pop_front();
      Settle(id, job);
      continue;
    }
    if (const absl::Duration wait = bucket_.Wait(scheduler_->now()); wait > absl::ZeroDuration()) {
      if (timer_ == TimerId{}) {
        timer_ = scheduler_->After(wait, [this] {
          timer_ = TimerId{};
          Pump();
        });
      }
      return;
    }
    FetchOne(id, job);
  }
}

void ChunkCopier::FetchOne(uint64_t id, Job& job) {
  const size_t slice = job.to_do.front();
  job.to_do.pop_front();
  ++job.under_way;
  ++under_way_;
  bucket_.Take(job.slices[slice].bytes);
  peers_->Fetch(job.copy.sources[job.source], job.slices[slice].range,
                [this, alive = std::weak_ptr<int>(alive_), id, slice,
                 source = job.source](absl::StatusOr<CopiedRecords> records) {
                  if (!alive.expired()) Fetched(id, slice, source, std::move(records));
                });
}

void ChunkCopier::Fetched(uint64_t id, size_t slice, size_t source,
                          absl::StatusOr<CopiedRecords> records) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) {
    --under_way_;
    return Pump();
  }
  Job& job = found->second;
  if (records.ok() && job.failed.ok()) {
    job.gave.insert(job.copy.sources[source]);
    local_->Publish(job.slices[slice].range, job.copy.placed, *std::move(records),
                    [this, alive = std::weak_ptr<int>(alive_), id, slice](absl::Status status) {
                      if (!alive.expired()) Stored(id, slice, status);
                    });
    return;
  }
  --under_way_;
  --job.under_way;
  if (!records.ok()) {
    ++counts_.failures;
    if (!HasNoCopy(records.status()) && job.in_doubt.ok()) job.in_doubt = records.status();
    if (!NextSource(job, source)) {
      Fail(job, job.in_doubt.ok() ? records.status() : job.in_doubt);
    } else if (job.failed.ok()) {
      job.to_do.push_back(slice);
      if (std::find(queue_.begin(), queue_.end(), id) == queue_.end()) queue_.push_front(id);
    }
  }
  Settle(id, job);
  Pump();
}

void ChunkCopier::Stored(uint64_t id, size_t slice, const absl::Status& status) {
  --under_way_;
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return Pump();
  Job& job = found->second;
  --job.under_way;
  if (status.ok()) {
    counts_.bytes += job.slices[slice].bytes;
    job.failures_in_row = 0;
  } else {
    ++counts_.failures;
    job.other_here = job.other_here || (job.failed.ok() && IsOtherChunk(status));
    Fail(job, status);
  }
  Settle(id, job);
  Pump();
}

void ChunkCopier::Fail(Job& job, const absl::Status& status) {
  if (job.failed.ok()) job.failed = status;
  job.to_do.clear();
}

bool ChunkCopier::NextSource(Job& job, size_t failed_source) {
  // Others that were under way at the same source say nothing new.
  if (job.source != failed_source) return true;
  job.source = (job.source + 1) % job.copy.sources.size();
  return ++job.failures_in_row <= 2 * job.copy.sources.size();
}

void ChunkCopier::Settle(uint64_t id, Job& job) {
  if (job.under_way > 0 || job.sealing) return;
  if (!job.failed.ok()) {
    if (!job.other_here) return End(id, job.failed);
    job.sealing = true;
    return DropThen(job.copy, [this, id, status = job.failed] { End(id, status); });
  }
  if (!job.to_do.empty()) return;
  if (!job.copy.chunk.sealed) return End(id, absl::OkStatus());
  job.sealing = true;
  local_->Seal(job.copy.chunk.id, job.copy.chunk.tokens, job.copy.chunk.checksum, job.copy.placed,
               [this, alive = std::weak_ptr<int>(alive_), id](absl::Status status) {
                 if (!alive.expired()) Sealed(id, status);
               });
}

void ChunkCopier::Sealed(uint64_t id, absl::Status status) {
  if (status.ok()) return End(id, status);
  ++counts_.failures;
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  Job& job = found->second;
  const bool mismatch = absl::IsDataLoss(status);
  if (mismatch) {
    ++counts_.mismatches;
    for (const NodeId& node : job.gave) peers_->Doubt(node, job.copy.chunk.id);
  }
  if (!mismatch && !IsOtherChunk(status)) return End(id, status);
  if (mismatch && !job.in_doubt.ok()) status = job.in_doubt;
  job.source = (job.source + 1) % job.copy.sources.size();
  const bool again = ++job.failed_seals < job.copy.sources.size();
  DropThen(job.copy, [this, id, status, again] {
    if (again) {
      Restart(id);
    } else {
      End(id, status);
    }
  });
}

void ChunkCopier::DropThen(const ChunkCopy& copy, std::function<void()> then) {
  auto done = [alive = std::weak_ptr<int>(alive_), then = std::move(then)](const absl::Status&) {
    if (!alive.expired()) then();
  };
  if (copy.joining) {
    local_->Discard(copy.chunk.id, copy.placed, std::move(done));
  } else {
    local_->Drop(copy.chunk.id, copy.placed, std::move(done));
  }
}

void ChunkCopier::Restart(uint64_t id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  Job& job = found->second;
  job.sealing = false;
  job.copy.tokens_here = 0;
  job.gave.clear();
  Cut(job);
  queue_.push_front(id);
  Pump();
}

void ChunkCopier::End(uint64_t id, absl::Status status) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  const Done done = std::move(found->second.done);
  jobs_.erase(found);
  std::erase(queue_, id);
  if (status.ok()) ++counts_.chunks;
  done(std::move(status));
}

}  // namespace latentd
