#include "tests/sim/sim_loop.h"

#include <algorithm>

namespace latentd::sim {

TimerId SimClock::After(absl::Duration delay, std::function<void()> closure) {
  const TimerId id{next_timer_++};
  timers_.insert(id);
  loop_->After(std::max(delay, absl::ZeroDuration()) / rate_,
               [this, id, alive = std::weak_ptr<int>(alive_), closure = std::move(closure)] {
                 if (alive.expired() || !timers_.contains(id)) return;
                 Run([this, id, closure] {
                   if (timers_.erase(id) > 0) closure();
                 });
               });
  return id;
}

void SimClock::Run(std::function<void()> closure) {
  if (paused_ || !waiting_.empty()) {
    waiting_.push_back(std::move(closure));
    return;
  }
  closure();
}

void SimClock::Resume() {
  paused_ = false;
  // One by one, as the loop turns: a closure may stop the process again, or end it.
  loop_->After(absl::ZeroDuration(), [this, alive = std::weak_ptr<int>(alive_)] {
    while (!alive.expired() && !paused_ && !waiting_.empty()) {
      const std::function<void()> closure = std::move(waiting_.front());
      waiting_.pop_front();
      closure();
    }
  });
}

}  // namespace latentd::sim
