// How long the lane's own device attends: batches of the lane's making, while there is nothing else
// to do. Whatever comes for others ends a trial: its batches are cancelled, and what it had of the
// store is given back.
#include <memory>
#include <utility>

#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "kernels/records.h"

namespace latentd {
namespace {

// Names of jobs that are no request's: requests count up from 1.
constexpr uint64_t kFirstTrialJob = uint64_t{1} << 63;
constexpr uint64_t kNoSession = 0;  // sessions count up from 1
constexpr absl::Duration kIdleFor = absl::Milliseconds(200);

absl::Status Stopped() { return absl::UnavailableError("the lane has stopped"); }

}  // namespace

void LaneImpl::TimeBatches(const BatchTrial& trial, TrialDone done) {
  // Shared, because a closed mailbox keeps nothing of what it is given.
  auto shared_done = std::make_shared<TrialDone>(std::move(done));
  const bool posted =
      mailbox_->Post([this, trial, shared_done] { BeginTrial(trial, std::move(*shared_done)); });
  if (!posted) (*shared_done)(Stopped());
}

void LaneImpl::EndTrials(std::function<void()> done) {
  auto shared_done = std::make_shared<std::function<void()>>(std::move(done));
  const bool posted = mailbox_->Post([this, shared_done] {
    if (trial_ == nullptr) trial_scratch_.reset();
    UpdateGauges();
    (*shared_done)();
  });
  if (!posted) (*shared_done)();
}

// A batch that a cpu lane computes is not taken back: a request that came meanwhile would wait for it.
// So a lane that was asked something a moment ago is not idle.
bool LaneImpl::HasWorkForOthers(absl::Time now) {
  if (std::exchange(seen_serial_, next_serial_) != next_serial_) last_request_ = now;
  return now - last_request_ < kIdleFor || !requests_.empty() || !local_work_.empty() || stopping_;
}

// Before something is written to the store, which may need the pages.
void LaneImpl::YieldTrial() {
  if (trial_ != nullptr && !trial_->times.interrupted) InterruptTrial(*trial_);
  if (trial_ == nullptr || trial_->in_flight.empty()) trial_scratch_.reset();
}

void LaneImpl::BeginTrial(const BatchTrial& trial, TrialDone done) {
  if (engine_ == nullptr) return done(Stopped());
  if (trial_ != nullptr) return done(absl::AbortedError("another trial is under way"));
  trial_ = std::make_unique<Trial>();
  trial_->what = trial;
  trial_->done = std::move(done);
  trial_->began = SteadyNow();
  if (trial.keep_busy) trial_->depth = static_cast<uint32_t>(engine_->max_in_flight());
}

bool LaneImpl::TurnTrial(absl::Time now) {
  const bool for_others = HasWorkForOthers(now);
  if (trial_ == nullptr) {
    if (for_others) trial_scratch_.reset();
    return false;
  }
  Trial& trial = *trial_;
  if (trial.status.ok()) trial.status = device_status_;
  if (for_others && !trial.times.interrupted) InterruptTrial(trial);
  const bool over =
      trial.times.interrupted || !trial.status.ok() || trial.times.us.size() >= trial.what.batches;
  if (over) {
    if (trial.in_flight.empty()) EndTrial();
    return false;
  }
  if (!trial.ready) {
    trial.status = PrepareTrial(trial);
    return true;
  }
  return LaunchTrial(trial);
}

absl::Status LaneImpl::PrepareTrial(Trial& trial) {
  if (trial_scratch_ == nullptr) {
    trial_scratch_ =
        std::make_unique<TrialScratch>(store_.get(), &buffers_, options_.high_watermark,
                                       options_.limits.publish_bytes_per_request);
  }
  if (!trial.reserved) {
    if (absl::Status s = trial_scratch_->Reserve(trial.what, trial.depth); !s.ok()) return s;
    trial.reserved = true;
  }
  const absl::StatusOr<bool> filled = trial_scratch_->Fill();
  if (!filled.ok()) return Judge(filled.status());
  trial.ready = *filled;
  return absl::OkStatus();
}

bool LaneImpl::LaunchTrial(Trial& trial) {
  // One that had to wait would be joined with the next.
  if (trial.launched == trial.what.warmups + trial.what.batches ||
      trial.in_flight.size() == trial.depth || engine_->rows_queued() > 0) {
    return false;
  }
  const absl::Time began = SteadyNow();
  const Problem problem = trial_scratch_->ProblemOf(trial.what, trial.launched % trial.depth);
  // As of rows that come: it takes a good part of what a few tokens take.
  if (FirstNonFiniteRow(problem.rows, uint64_t{problem.tokens} * problem.heads,
                        options_.layout.geometry().row_width())) {
    trial.status = absl::InternalError("a trial's rows are not finite");
    return false;
  }
  const uint64_t job = kFirstTrialJob + next_trial_job_++;
  engine_->Add({.job = job, .session = kNoSession, .problem = problem});
  trial.in_flight.emplace(job, began);
  ++trial.launched;
  ++trial_batches_;
  return true;
}

void LaneImpl::InterruptTrial(Trial& trial) {
  trial.times.interrupted = true;
  absl::erase_if(trial.in_flight, [this](const auto& batch) {
    const bool was_queued = engine_->Cancel(batch.first);
    trial_batches_ -= was_queued ? 1 : 0;
    return was_queued;
  });
}

bool LaneImpl::OnTrialBatch(const EngineDone& done, absl::Time now) {
  if (done.job < kFirstTrialJob) return false;
  Trial& trial = *trial_;  // it does not end before its batches do
  const absl::Time began = trial.in_flight.at(done.job);
  trial.in_flight.erase(done.job);
  if (trial.times.interrupted) {
    if (absl::IsInternal(done.status)) trial.status = Judge(done.status);
  } else if (!done.status.ok()) {
    trial.status = Judge(done.status);
  } else if (++trial.finished > trial.what.warmups) {
    trial.times.us.push_back(absl::ToDoubleMicroseconds(now - began));
  }
  return true;
}

void LaneImpl::EndTrial() {
  const std::unique_ptr<Trial> trial = std::move(trial_);
  stats_.trial_ns.Add(static_cast<uint64_t>(absl::ToInt64Nanoseconds(SteadyNow() - trial->began)));
  if (trial->times.interrupted || !trial->status.ok()) trial_scratch_.reset();
  UpdateGauges();
  if (!trial->status.ok()) return trial->done(trial->status);
  trial->done(std::move(trial->times));
}

// REQUIRES: the engine is gone, and with it whoever reads what the scratch has.
void LaneImpl::DropTrial() {
  if (trial_ != nullptr) {
    trial_->status = Stopped();
    EndTrial();
  }
  trial_scratch_.reset();
}

}  // namespace latentd
