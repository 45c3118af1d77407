#include "daemon/engine/batcher.h"

namespace latentd {

void Batcher::Add(const BatchItem& item) {
  const Sequence sequence = next_sequence_++;
  items_.emplace(sequence, item);
  by_job_.emplace(item.job, sequence);
  const auto [queue, is_new] = by_session_.try_emplace(item.session);
  // An emptied queue stays until its turn comes, so that a session is in turns_ exactly once.
  if (is_new) turns_.push_back(item.session);
  queue->second.insert(sequence);
  if (item.chunk != nullptr) by_key_[{item.chunk, item.layer}].insert(sequence);
  by_deadline_.insert({item.deadline, sequence});
  rows_ += item.rows;
}

void Batcher::Take(Sequence sequence) {
  const auto it = items_.find(sequence);
  const BatchItem& item = it->second;
  by_job_.erase(item.job);
  by_session_.find(item.session)->second.erase(sequence);
  if (item.chunk != nullptr) {
    const auto mates = by_key_.find(Key{item.chunk, item.layer});
    mates->second.erase(sequence);
    if (mates->second.empty()) by_key_.erase(mates);
  }
  by_deadline_.erase({item.deadline, sequence});
  rows_ -= item.rows;
  items_.erase(it);
}

bool Batcher::Remove(uint64_t job) {
  const auto it = by_job_.find(job);
  if (it == by_job_.end()) return false;
  Take(it->second);
  return true;
}

void Batcher::TakeExpired(absl::Time now, std::vector<uint64_t>& jobs) {
  while (!by_deadline_.empty() && by_deadline_.begin()->first <= now) {
    const Sequence sequence = by_deadline_.begin()->second;
    jobs.push_back(items_.find(sequence)->second.job);
    Take(sequence);
  }
}

bool Batcher::Fits(const BatchItem& item, const Sum& sum, size_t requests) const {
  if (requests == 0) return true;
  return sum.rows + item.rows <= limits_.rows && requests < limits_.requests &&
         sum.work <= limits_.work && item.work <= limits_.work - sum.work;
}

void Batcher::TakeBatch(std::vector<uint64_t>& jobs) {
  jobs.clear();
  Sum sum;
  while (!turns_.empty()) {
    const uint64_t session = turns_.front();
    const auto queue = by_session_.find(session);
    if (queue->second.empty()) {
      by_session_.erase(queue);
      turns_.pop_front();
      continue;
    }
    const Sequence sequence = *queue->second.begin();
    const BatchItem item = items_.find(sequence)->second;
    // Whoever does not fit keeps the first turn of the next batch: large requests are not starved.
    if (!Fits(item, sum, jobs.size())) return;
    turns_.pop_front();
    turns_.push_back(session);
    jobs.push_back(item.job);
    sum.Add(item);
    Take(sequence);
    if (item.chunk != nullptr) TakeMates({item.chunk, item.layer}, sum, jobs);
  }
}

void Batcher::TakeMates(const Key& key, Sum& sum, std::vector<uint64_t>& jobs) {
  const auto mates = by_key_.find(key);
  if (mates == by_key_.end()) return;
  std::vector<Sequence> taken;
  for (const Sequence sequence : mates->second) {
    const BatchItem& item = items_.find(sequence)->second;
    if (!Fits(item, sum, jobs.size())) break;
    jobs.push_back(item.job);
    sum.Add(item);
    taken.push_back(sequence);
  }
  for (const Sequence sequence : taken) Take(sequence);
}

}  // namespace latentd
