#include "daemon/services/lifecycle.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane.h"
#include "daemon/membership/membership.h"
#include "daemon/process/log.h"

namespace latentd {

std::string_view LifecycleStateName(LifecycleState state) {
  switch (state) {
    case LifecycleState::kStarting:
      return "starting";
    case LifecycleState::kActive:
      return "active";
    case LifecycleState::kDraining:
      return "draining";
    case LifecycleState::kStopping:
      return "stopping";
  }
  return "unknown";
}

Lifecycle::Lifecycle(std::vector<Lane*> lanes, Membership* membership,
                     std::function<void(bool)> on_serving)
    : lanes_(std::move(lanes)), membership_(membership), on_serving_(std::move(on_serving)) {}

void Lifecycle::Ready() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (state_ == LifecycleState::kStarting) Enter(LifecycleState::kActive);
}

absl::Status Lifecycle::Drain() {
  const std::lock_guard<std::mutex> lock(mutex_);
  switch (state_) {
    case LifecycleState::kActive:
      Enter(LifecycleState::kDraining);
      return absl::OkStatus();
    case LifecycleState::kDraining:
      return absl::OkStatus();
    case LifecycleState::kStarting:
    case LifecycleState::kStopping:
      break;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("drain: the daemon is ", LifecycleStateName(state_).data()));
}

absl::Status Lifecycle::Resume() {
  const std::lock_guard<std::mutex> lock(mutex_);
  switch (state_) {
    case LifecycleState::kDraining:
      Enter(LifecycleState::kActive);
      return absl::OkStatus();
    case LifecycleState::kActive:
      return absl::OkStatus();
    case LifecycleState::kStarting:
    case LifecycleState::kStopping:
      break;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("resume: the daemon is ", LifecycleStateName(state_).data()));
}

void Lifecycle::Stop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (state_ != LifecycleState::kStopping) Enter(LifecycleState::kStopping);
}

LifecycleState Lifecycle::state() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return state_;
}

uint64_t Lifecycle::RequestsInFlight() const {
  uint64_t requests = 0;
  for (const Lane* lane : lanes_) requests += lane->stats().requests_in_flight.Get();
  return requests;
}

void Lifecycle::Enter(LifecycleState state) {
  const bool active = state == LifecycleState::kActive;
  const bool serving = active || (state == LifecycleState::kDraining && membership_->hands_over());
  LogInfo("node state changed",
          {{"from", LifecycleStateName(state_)}, {"to", LifecycleStateName(state)}});
  state_ = state;
  // First who sends queries here, then who would answer them.
  if (!serving) on_serving_(false);
  membership_->SetDraining(!active);
  for (Lane* lane : lanes_) lane->SetAdmitting(serving);
  if (serving) on_serving_(true);
}

}  // namespace latentd
