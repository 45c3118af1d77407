#include "client/cached_attention.h"

#include <algorithm>

namespace latentd {

uint64_t CachedAttention::Start(const Problem& problem) {
  waiting_.push_back({next_, problem});
  Submit();
  return next_++;
}

void CachedAttention::Cancel(uint64_t batch) {
  const auto waits = [&](const auto& one) { return one.first == batch; };
  if (std::erase_if(waiting_, waits) > 0) {
    done_[batch] = {absl::CancelledError("cancelled"), 0};
  } else {
    backend_->Cancel(batch);
  }
}

std::optional<CachedAttention::Done> CachedAttention::Poll(uint64_t batch) {
  auto found = done_.find(batch);
  if (found == done_.end()) {
    backend_->Poll(results_);
    for (BatchResult& result : results_)
      done_[result.batch_id] = {std::move(result.statuses.front()), result.compute_ns};
    results_.clear();
    Submit();
    found = done_.find(batch);
  }
  if (found == done_.end()) return std::nullopt;
  Done done = std::move(found->second);
  done_.erase(found);
  return done;
}

void CachedAttention::Submit() {
  while (!waiting_.empty() && backend_->in_flight() < backend_->max_in_flight()) {
    backend_->Submit(waiting_.front().first, {&waiting_.front().second, 1});
    waiting_.pop_front();
  }
}

}  // namespace latentd
