#include "daemon/process/watchdog.h"

#include <utility>

#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"

namespace latentd {

std::optional<size_t> LaneWatch::FirstStalled(const std::vector<absl::Time>& last_turns,
                                              absl::Time now) {
  std::optional<size_t> stalled;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (last_turns[i] != lanes_[i].last_turn) lanes_[i] = {last_turns[i], now};
    if (last_turns[i] == absl::InfiniteFuture()) continue;
    if (!stalled && now - lanes_[i].changed > limit_) stalled = i;
  }
  return stalled;
}

Watchdog::Watchdog(absl::Duration timeout, std::function<std::vector<absl::Time>()> last_turns,
                   std::function<void()> vouch)
    : timeout_(timeout),
      last_turns_(std::move(last_turns)),
      vouch_(std::move(vouch)),
      thread_([this] { Run(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Watchdog::Run() {
  LaneWatch watch(last_turns_().size(), timeout_ / 2);
  std::optional<size_t> reported;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    const std::optional<size_t> stalled = watch.FirstStalled(last_turns_(), SteadyNow());
    if (!stalled) {
      vouch_();
    } else if (stalled != reported) {
      LogError("a lane stands still: the watchdog is left to bite", {{"lane", *stalled}});
    }
    reported = stalled;
    changed_.wait_for(lock, absl::ToChronoMilliseconds(timeout_ / 4));
  }
}

}  // namespace latentd
