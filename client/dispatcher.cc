#include "client/dispatcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transport/errors.h"

namespace latentd {

Dispatcher::Dispatcher(DataPath* path, ControlPlane* control, Handover* handover,
                       DispatcherOptions options)
    : path_(path),
      control_(control),
      handover_(handover),
      options_(std::move(options)),
      records_(options_.breaker),
      hedge_budget_(options_.hedge.max_share),
      random_(options_.seed) {}

uint64_t Dispatcher::Start(std::unique_ptr<Operation> operation, uint64_t deadline_ns) {
  const uint64_t id = next_id_++;
  now_ns_ = SteadyNanos();
  auto owned = std::make_unique<Entry>();
  Entry& entry = *owned;
  entry.id = id;
  entry.operation = std::move(operation);
  entry.deadline_ns = deadline_ns;
  entry.started_ns = now_ns_;
  entries_[id] = std::move(owned);
  deadlines_.Add(deadline_ns, id);
  entry.working = entry.operation->works_here();
  if (entry.working) working_.push_back(id);

  if (!LaunchIfReady(entry)) unready_.push_back(id);
  return id;
}

bool Dispatcher::LaunchIfReady(Entry& entry) {
  const absl::StatusOr<bool> ready = entry.operation->Ready();
  if (!ready.ok()) {
    EndEntry(entry.id, entry, ready.status());
  } else if (*ready) {
    Work work{.operation = entry.id};
    for (uint32_t item = 0; item < entry.operation->initial_items(); ++item)
      work.items.push_back(item);
    if (!work.items.empty()) Launch(std::move(work));
  } else {
    return false;
  }
  Settle(entry.id, entry);
  return true;
}

bool Dispatcher::LaunchUnready() {
  if (unready_.empty()) return false;
  const auto gone = [this](uint64_t id) {
    Entry* entry = FindLive(id);
    return entry == nullptr || LaunchIfReady(*entry);
  };
  return std::erase_if(unready_, gone) > 0;
}

bool Dispatcher::WorkHere() {
  if (working_.empty()) return false;
  std::erase_if(working_, [this](uint64_t id) {
    Entry& entry = *entries_.at(id);  // it is kept until it is done
    const absl::StatusOr<bool> done = entry.operation->Work(entry.ended.has_value());
    if (done.ok() && !*done) return false;
    entry.working = false;
    if (!done.ok()) EndEntry(id, entry, done.status());
    Settle(id, entry);
    return true;
  });
  return true;
}

Dispatcher::Entry* Dispatcher::FindLive(uint64_t operation) {
  const auto found = entries_.find(operation);
  return found == entries_.end() || found->second->ended.has_value() ? nullptr
                                                                     : found->second.get();
}

uint64_t Dispatcher::AttemptLimit(const Entry& entry) const {
  const uint64_t left_ns = entry.deadline_ns > now_ns_ ? entry.deadline_ns - now_ns_ : 0;
  return AttemptLimitNs(options_.attempt_timeout_ns, left_ns);
}

void Dispatcher::Park(Entry& entry, Work work) {
  ++entry.parked;
  for (const uint64_t moment_ns : {work.not_before_ns, work.patience_ns}) {
    if (moment_ns > now_ns_) wake_ns_ = std::min(wake_ns_, moment_ns);
  }
  parked_.push_back(std::move(work));
}

void Dispatcher::WakeParked() {
  std::vector<Work> awake;
  awake.swap(parked_);
  wake_ns_ = kNever;
  for (Work& work : awake) {
    const uint64_t id = work.operation;
    const auto found = entries_.find(id);
    if (found == entries_.end()) continue;
    Entry& entry = *found->second;
    --entry.parked;
    Launch(std::move(work));
    Settle(id, entry);
  }
}

bool Dispatcher::Progress() {
  now_ns_ = SteadyNanos();
  bool busy = path_->Progress(now_ns_, &results_);
  busy = LaunchUnready() || busy;
  busy = WorkHere() || busy;
  for (size_t i = 0; i < results_.size(); ++i) OnResult(std::move(results_[i]));
  results_.clear();

  handover_->Take(&events_);
  busy = busy || !events_.empty();
  for (size_t i = 0; i < events_.size(); ++i) OnEvent(std::move(events_[i]));
  if (!events_.empty() || wake_ns_ <= now_ns_) WakeParked();
  events_.clear();

  timers_.TakeDue(now_ns_, &due_);
  for (const uint64_t id : due_) OnTimer(id);
  busy = busy || !due_.empty();
  due_.clear();

  deadlines_.TakeDue(now_ns_, &due_);
  for (const uint64_t id : due_) {
    if (Entry* entry = FindLive(id); entry != nullptr) EndEntry(id, *entry, DeadlineStatus(*entry));
  }
  due_.clear();
  busy = busy || !ready_.empty();
  FinishReady();
  return busy;
}

uint64_t Dispatcher::next_timer_ns() const {
  return std::min({deadlines_.next_ns(), timers_.next_ns(), wake_ns_, path_->next_timer_ns()});
}

std::vector<NodeHealth> Dispatcher::Health() {
  records_.Keep(*table_);
  return records_.Report(SteadyNanos());
}

void Dispatcher::End(uint64_t id, absl::Status status) {
  if (Entry* entry = FindLive(id); entry != nullptr) EndEntry(id, *entry, std::move(status));
}

void Dispatcher::EndAll(const absl::Status& status) {
  std::vector<uint64_t> ids;
  for (const auto& [id, entry] : entries_) ids.push_back(id);
  for (const uint64_t id : ids) End(id, status);
}

void Dispatcher::EndEntry(uint64_t id, Entry& entry, absl::Status status) {
  if (entry.ended.has_value()) return;
  entry.ended = std::move(status);
  const auto exchanges = entry.exchanges;
  for (const uint64_t exchange : exchanges) path_->Abandon(exchange);
  std::erase_if(parked_, [&](const Work& work) { return work.operation == id; });
  entry.parked = 0;
  Settle(id, entry);
}

void Dispatcher::Settle(uint64_t id, Entry& entry) {
  if (entry.ready || entry.working || entry.parked > 0 || !entry.exchanges.empty()) return;
  entry.ready = true;
  ready_.push_back(id);
}

void Dispatcher::FinishReady() {
  // A callback may start operations, which may be ready at once: they wait for the next turn.
  std::vector<uint64_t> ready;
  ready.swap(ready_);
  for (const uint64_t id : ready) {
    const auto found = entries_.find(id);
    if (found == entries_.end()) continue;
    const std::unique_ptr<Entry> entry = std::move(found->second);
    entries_.erase(found);
    deadlines_.Remove(entry->deadline_ns, id);
    entry->operation->Finish(entry->ended.value_or(absl::OkStatus()));
  }
}

absl::Status Dispatcher::DeadlineStatus(const Entry& entry) const {
  std::vector<std::string> waiting;
  for (const uint64_t id : entry.exchanges) waiting.push_back(exchanges_.at(id).record->id);
  const double ms = static_cast<double>(entry.deadline_ns - entry.started_ns) / 1e6;
  std::string what = waiting.empty() ? "for a session or a table"
                                     : absl::StrCat("for ", absl::StrJoin(waiting, ", "));
  for (const Work& work : parked_) {
    if (work.operation == entry.id && !work.lost_primary.empty())
      what = absl::StrCat("for another primary than ", work.lost_primary);
  }
  return absl::DeadlineExceededError(absl::StrCat("no answer within ", ms, " ms; waited ", what));
}

}  // namespace latentd
