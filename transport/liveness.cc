#include "transport/liveness.h"

#include <algorithm>

namespace latentd {

Liveness::Liveness(const LivenessOptions& options, absl::Time now)
    : options_(options), now_(now), silent_since_(now), pinged_at_(absl::InfinitePast()) {}

void Liveness::OnHeard(absl::Time now) { Apply(Event::kHeard, now); }

void Liveness::OnSent(absl::Time now) {
  ++outstanding_;
  Apply(Event::kSent, now);
}

void Liveness::OnSettled(absl::Time now) {
  if (outstanding_ > 0) --outstanding_;
  Apply(Event::kSettled, now);
}

Liveness::Action Liveness::Tick(absl::Time now) { return Apply(Event::kTick, now); }

Liveness::Action Liveness::Apply(Event event, absl::Time now) {
  now_ = std::max(now_, now);
  switch (state_) {
    case State::kIdle:
      if (event == Event::kHeard) silent_since_ = now_;
      if (event == Event::kSent) {
        silent_since_ = now_;
        state_ = State::kWaiting;
      }
      break;
    case State::kWaiting:
      if (event == Event::kHeard) silent_since_ = now_;
      if (event == Event::kSettled) state_ = Resting();
      break;
    case State::kProbing:
      if (event == Event::kHeard) {
        silent_since_ = now_;
        state_ = Resting();
      } else if (event == Event::kTick && now_ - pinged_at_ >= options_.dead_after) {
        state_ = State::kDead;
        return Action::kDead;
      }
      return Action::kNothing;
    case State::kDead:
      return Action::kNothing;
  }
  if (event == Event::kTick && now_ >= next_tick()) {
    pinged_at_ = now_;
    state_ = State::kProbing;
    return Action::kPing;
  }
  return Action::kNothing;
}

absl::Time Liveness::next_tick() const {
  switch (state_) {
    case State::kIdle:
      return silent_since_ + options_.idle_ping_after;
    case State::kWaiting:
      return silent_since_ + options_.ping_after;
    case State::kProbing:
      return pinged_at_ + options_.dead_after;
    case State::kDead:
      break;
  }
  return absl::InfiniteFuture();
}

std::string_view ToString(Liveness::State state) {
  switch (state) {
    case Liveness::State::kIdle:
      return "idle";
    case Liveness::State::kWaiting:
      return "waiting";
    case Liveness::State::kProbing:
      return "probing";
    case Liveness::State::kDead:
      return "dead";
  }
  return "unknown";
}

}  // namespace latentd
