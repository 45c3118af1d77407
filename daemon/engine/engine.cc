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

}  // namespace

Engine::Engine(std::unique_ptr<Backend> backend, EngineOptions options)
    : backend_(std::move(backend)),
      max_in_flight_(std::clamp(options.max_in_flight, 1, backend_->max_in_flight())),
      batcher_(options.batch) {}

void Engine::Add(const EngineRequest& request) {
  queued_.emplace(request.job, request.problem);
  batcher_.Add({.job = request.job,
                .session = request.session,
                .chunk = FirstChunk(request.problem),
                .layer = request.problem.layer,
                .rows = Rows(request.problem),
                .deadline = request.deadline});
}

bool Engine::Cancel(uint64_t job) { return batcher_.Remove(job) && queued_.erase(job) > 0; }

bool Engine::Turn(absl::Time now, std::vector<EngineDone>& done) {
  bool busy = Expire(now, done);
  busy |= Launch(now);
  busy |= Collect(done);
  return busy;
}

bool Engine::Expire(absl::Time now, std::vector<EngineDone>& done) {
  if (batcher_.next_deadline() > now) return false;
  expired_.clear();
  batcher_.TakeExpired(now, expired_);
  for (const uint64_t job : expired_) {
    queued_.erase(job);
    done.push_back({.job = job,
                    .status = absl::DeadlineExceededError("the deadline passed in the queue"),
                    .started = absl::InfinitePast()});
  }
  return true;
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
    batcher_.TakeBatch(batch->jobs);
    batch->problems.clear();
    batch->rows = 0;
    batch->started = now;
    for (const uint64_t job : batch->jobs) {
      const auto it = queued_.find(job);
      batch->problems.push_back(it->second);
      batch->rows += Rows(it->second);
      queued_.erase(it);
    }
    const uint64_t id = next_batch_++;
    backend_->Submit(id, batch->problems);
    batches_.emplace(id, std::move(batch));
    launched = true;
  }
  return launched;
}

bool Engine::Collect(std::vector<EngineDone>& done) {
  if (batches_.empty()) return false;
  results_.clear();
  const bool busy = backend_->Poll(results_);
  for (BatchResult& result : results_) {
    const auto it = batches_.find(result.batch_id);
    if (it == batches_.end()) continue;
    std::unique_ptr<Batch> batch = std::move(it->second);
    batches_.erase(it);
    for (size_t i = 0; i < batch->jobs.size(); ++i) {
      done.push_back({.job = batch->jobs[i],
                      .status = i < result.statuses.size()
                                    ? std::move(result.statuses[i])
                                    : absl::InternalError("the backend gave no result"),
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
