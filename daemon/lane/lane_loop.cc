// The lane's thread: turn after turn until it is told to stop and nothing is in flight any more.
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"

namespace latentd {
namespace {

// Messages that came together should be batched together: a turn takes in at most so many rounds of
// them before it computes.
constexpr int kProgressRounds = 8;
// An idle lane turns at least this often: the watchdog looks.
constexpr absl::Duration kLongestSleep = absl::Milliseconds(900);
// What was cut off is still told so, if its peer listens.
constexpr absl::Duration kCutOffGrace = absl::Milliseconds(100);
// A lane that is never idle takes a step of the scrub when one is overdue for so long: some 2 MiB
// a second are read again, for less than a thousandth of its time.
constexpr absl::Duration kScrubPatience = absl::Milliseconds(100);
// Longer than any round trip of a peer that listens.
constexpr absl::Duration kFarewellPatience = absl::Milliseconds(100);

void PinToCpus(uint32_t lane, const std::vector<int>& cpus) {
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) {
    if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  }
  if (const int error = pthread_setaffinity_np(pthread_self(), sizeof(set), &set); error != 0) {
    LogWarn("a lane cannot be pinned to its cpus", {{"lane", lane}, {"error", error}});
  }
}

}  // namespace

void LaneImpl::Run() {
  pthread_setname_np(pthread_self(), absl::StrCat("lane-", options_.index).c_str());
  PinToCpus(options_.index, options_.cpus);
  enter_thread_();
  uint64_t fruitless = 0;
  while (true) {
    const absl::Time now = SteadyNow();
    const bool busy = Turn(now);
    last_turn_ns_.store(absl::ToUnixNanos(now), std::memory_order_relaxed);
    if (stopping_ && DrainDue(now)) break;
    if (now >= next_scrub_ + kScrubPatience) Scrub(now);
    if (busy) {
      waiter_->NoteWork(now);
      fruitless = 0;
    } else if (engine_->computing()) {
      // Helpers have the last tiles of a batch: they will be done before a sleep could begin. They
      // may also need this core.
      if (++fruitless % 64 == 0) sched_yield();
    } else {
      Scrub(now);
      waiter_->Wait(now, NextWake(now), [this] { return !mailbox_->pending() && worker_->Arm(); });
    }
  }
  CutOff();
  Farewell();
  AwaitForwards();
  mailbox_->Close();
  mailbox_->Run();
  FailLocalWork();
  TearDown();
  last_turn_ns_.store(kStopped, std::memory_order_relaxed);
}

bool LaneImpl::Turn(absl::Time now) {
  bool busy = mailbox_->Run();
  for (int round = 0; round < kProgressRounds && worker_->Progress() > 0; ++round) busy = true;
  busy |= TurnTrial(now);
  done_.clear();
  // The time after the messages that just came, so that none seems to be computed before it came.
  busy |= engine_->Turn(SteadyNow(), done_);
  if (!done_.empty()) {
    const absl::Time after = SteadyNow();
    for (const EngineDone& done : done_) {
      if (!OnTrialBatch(done, after)) OnComputed(done, after);
    }
  }
  busy |= DoLocalWork();
  if (now >= next_housekeeping_) Housekeep(now);
  if (busy) UpdateGauges();
  return busy;
}

void LaneImpl::Housekeep(absl::Time now) {
  store_->ExpireLeases(now);
  CheckPeers(now);
  DropLeaving(now);
  DropOrphans(now);
  last_housekeeping_ = now;
  const absl::Duration tick =
      std::min(options_.ping_after, options_.dead_after - options_.ping_after) / 4;
  next_housekeeping_ = now + std::clamp(tick, absl::Milliseconds(10), absl::Milliseconds(250));
  UpdateGauges();
}

absl::Time LaneImpl::NextWake(absl::Time now) const {
  absl::Time wake = std::min(now + kLongestSleep, engine_->next_deadline());
  if (stopping_) wake = std::min(wake, stop_at_);
  // Without sessions there is nobody to look after. With some, liveness sets the beat.
  if (!sessions_.empty() || !leaving_.empty()) wake = std::min(wake, next_housekeeping_);
  if (options_.scrub_bytes_per_s != 0) wake = std::min(wake, next_scrub_);
  return wake;
}

bool LaneImpl::DrainDue(absl::Time now) const {
  return (requests_.empty() && unsent_notes_ == 0 && forwards_ == 0) || now >= stop_at_;
}

void LaneImpl::CutOff() {
  uint64_t cut = 0;
  // Nobody computes from here on, so that every request in the engine can be answered.
  engine_.reset();
  std::vector<uint64_t> serials;
  for (const auto& [serial, request] : requests_) serials.push_back(serial);
  for (const uint64_t serial : serials) {
    LaneRequest& request = *requests_.find(serial)->second;
    ++cut;
    const bool forwarding = request.stage == LaneRequest::Stage::kForwarding;
    if (forwarding) KeepPayload(request);
    if ((forwarding || request.stage == LaneRequest::Stage::kComputing) && !request.dropped) {
      Finish(request, absl::UnavailableError("the node is stopping: ask another holder"));
    }
  }
  const absl::Time until = SteadyNow() + kCutOffGrace;
  while (cut > 0 && !requests_.empty() && SteadyNow() < until) worker_->Progress();
  if (cut == 0) return;
  stop_status_ = absl::DeadlineExceededError(
      absl::StrCat("lane ", options_.index, ": ", cut, " requests were cut off"));
  LogWarn("requests were cut off", {{"lane", options_.index}, {"requests_in_flight", cut}});
}

// UCX says that a small message has left when it has taken a copy, and closing a connection drops
// what was only copied. So peers are asked something after their last reply: who answers has it.
void LaneImpl::Farewell() {
  if (stop_at_ == absl::InfinitePast()) return;  // being destroyed: nobody waits
  const absl::Time now = SteadyNow();
  for (const auto& [token, session] : sessions_) {
    if (session->state != LaneSession::State::kBound) continue;
    session->farewell_unanswered = true;
    SendPing(session);
  }
  const auto unanswered = [&] {
    return std::any_of(sessions_.begin(), sessions_.end(),
                       [](const auto& entry) { return entry.second->farewell_unanswered; });
  };
  while (unanswered() && SteadyNow() < now + kFarewellPatience) {
    if (worker_->Progress() == 0) sched_yield();
  }
}

void LaneImpl::TearDown() {
  if (worker_ == nullptr) return;
  // Backends and UCX write into requests' buffers: both go before the requests do.
  engine_.reset();
  DropTrial();
  for (const auto& [token, session] : sessions_) {
    session->state = LaneSession::State::kEnded;
    session->endpoint.reset();
  }
  sessions_.clear();
  by_sender_.clear();
  worker_.reset();
  requests_.clear();
  UpdateGauges();
  stats_.endpoints.Set(0);
}

void LaneImpl::UpdateGauges() {
  const StoreCounts counts = store_->counts();
  stats_.pages_total.Set(counts.pages_total);
  stats_.pages_free.Set(counts.pages_free);
  stats_.chunks_open.Set(counts.chunks_open);
  stats_.chunks_sealed.Set(counts.chunks_sealed);
  stats_.chunks_pinned.Set(counts.chunks_pinned);
  stats_.evicted_chunks.Set(counts.evicted_chunks);
  stats_.discarded_chunks.Set(counts.discarded_chunks);
  stats_.published_bytes.Set(counts.published_bytes);
  stats_.released_chunks.Set(counts.released_chunks);
  stats_.quarantined_chunks.Set(counts.chunks_quarantined);
  stats_.corrupt_chunks.Set(counts.corrupt_chunks);
  stats_.scrubbed_bytes.Set(counts.scrubbed_bytes);
  stats_.forwards_in_flight.Set(forwards_);
  stats_.requests_in_flight.Set(admission_.lane().requests());
  stats_.bytes_in_flight.Set(admission_.lane().bytes());
  stats_.rows_queued.Set(engine_ == nullptr ? 0 : engine_->rows_queued());
  if (engine_ != nullptr) stats_.attend_batches.Set(engine_->batches_launched() - trial_batches_);
  const bool computing = engine_ != nullptr && engine_->computing();
  stats_.oldest_batch_start_ns.Set(
      computing ? static_cast<uint64_t>(absl::ToUnixNanos(engine_->oldest_batch())) : 0);
  stats_.endpoints.Set(by_sender_.size());
}

}  // namespace latentd
