#include "daemon/engine/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

uint32_t Rows(const Problem& problem) { return problem.tokens * problem.heads; }

// Batch mates are found by the first chunk: requesters that share a prefix share its first chunk.
const void* FirstChunk(const Problem& problem) {
  return problem.segments.empty() ? nullptr : problem.segments.front().page_ids;
}

// What a request is told: a failed device whatever else happened, and no answer that comes late.
absl::Status Verdict(absl::Status backend, bool cancelled, bool late) {
  if (absl::IsInternal(backend)) return backend;
  if (cancelled) return absl::CancelledError("the request was cancelled");
  if (late)
    return absl::DeadlineExceededError("the deadline passed before the answer was computed");
  return backend;
}

}  // namespace

Engine::Engine(std::unique_ptr<Backend> backend, EngineOptions options)
    : backend_(std::move(backend)),
      max_in_flight_(std::clamp(options.max_in_flight, 1, backend_->max_in_flight())),
      batcher_(options.batch) {}

void Engine::Add(const EngineRequest& request) {
  queued_.emplace(request.job, Queued{request.problem, request.deadline});
  batcher_.Add({.job = request.job,
                .session = request.session,
                .chunk = FirstChunk(request.problem),
                .layer = request.problem.layer,
                .rows = Rows(request.problem),
                .work = request.work,
                .deadline = request.deadline});
}

bool Engine::Cancel(uint64_t job) {
  if (batcher_.Remove(job)) return queued_.erase(job) > 0;
  for (auto& [id, batch] : batches_) {
    absl::Time wanted_until = absl::InfinitePast();
    for (Job& member : batch->jobs) {
      member.cancelled |= member.job == job;
      if (!member.cancelled) wanted_until = std::max(wanted_until, member.deadline);
    }
    batch->wanted_until = wanted_until;
  }
  return false;
}

absl::Time Engine::oldest_batch() const {
  absl::Time oldest = absl::InfiniteFuture();
  for (const auto& [id, batch] : batches_) oldest = std::min(oldest, batch->started);
  return oldest;
}

bool Engine::Turn(absl::Time now, std::vector<EngineDone>& done) {
  bool busy = Expire(now, done);
  Abandon(now);
  busy |= Launch(now);
  busy |= Collect(now, done);
  return busy;
}

bool Engine::Expire(absl::Time now, std::vector<EngineDone>& done) {
  if (batcher_.next_deadline() > now) return false;
  jobs_.clear();
  batcher_.TakeExpired(now, jobs_);
  for (const uint64_t job : jobs_) {
    queued_.erase(job);
    done.push_back({.job = job,
                    .status = absl::DeadlineExceededError("the deadline passed in the queue"),
                    .started = absl::InfinitePast()});
  }
  return true;
}

void Engine::Abandon(absl::Time now) {
  for (auto& [id, batch] : batches_) {
    if (batch->abandoned || now < batch->wanted_until) continue;
    batch->abandoned = true;
    backend_->Cancel(id);
  }
}

bool Engine::Launch(absl::Time now) {
  bool launched = false;
  while (!batcher_.empty() && backend_->in_flight() < max_in_flight_) {
    std::unique_ptr<Batch> batch;
    if (spare_.empty()) {
      batch = std::make_unique<Batch>();
    } else {
      batch = std::move(spare_.back());
      spare_.pop_back();
    }
    batcher_.TakeBatch(jobs_);
    batch->jobs.clear();
    batch->problems.clear();
    batch->rows = 0;
    batch->started = now;
    batch->wanted_until = absl::InfinitePast();
    batch->abandoned = false;
    for (const uint64_t job : jobs_) {
      const auto it = queued_.find(job);
      const auto& [problem, deadline] = it->second;
      batch->jobs.push_back({.job = job, .deadline = deadline});
      batch->problems.push_back(problem);
      batch->rows += Rows(problem);
      batch->wanted_until = std::max(batch->wanted_until, deadline);
      queued_.erase(it);
    }
    const uint64_t id = next_batch_++;
    backend_->Submit(id, batch->problems);
    batches_.emplace(id, std::move(batch));
    launched = true;
  }
  return launched;
}

bool Engine::Collect(absl::Time now, std::vector<EngineDone>& done) {
  if (batches_.empty()) return false;
  results_.clear();
  const bool busy = backend_->Poll(results_);
  for (BatchResult& result : results_) {
    const auto it = batches_.find(result.batch_id);
    if (it == batches_.end()) continue;
    std::unique_ptr<Batch> batch = std::move(it->second);
    batches_.erase(it);
    for (size_t i = 0; i < batch->jobs.size(); ++i) {
      absl::Status status = i < result.statuses.size()
                                ? std::move(result.statuses[i])
                                : absl::InternalError("the backend gave no result");
      const Job& job = batch->jobs[i];
      done.push_back({.job = job.job,
                      .status = Verdict(std::move(status), job.cancelled, job.deadline <= now),
                      .started = batch->started,
                      .compute_ns = result.compute_ns,
                      .batch_rows = batch->rows,
                      .batch_requests = static_cast<uint32_t>(batch->jobs.size())});
    }
    spare_.push_back(std::move(batch));
  }
  return busy || !results_.empty();
}

}  // namespace latentd
