// `Watchdog` vouches to the service manager for the daemon as long as every lane's loop turns, and
// falls silent when one does not: then the manager restarts the daemon.
#ifndef LATENTD_DAEMON_PROCESS_WATCHDOG_H_
#define LATENTD_DAEMON_PROCESS_WATCHDOG_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace latentd {

// Tells a lane that stands still from one that turns, by watching whether its last turn changes.
// Not synchronised.
class LaneWatch {
 public:
  LaneWatch(size_t lanes, absl::Duration limit) : limit_(limit), lanes_(lanes) {}

  // Takes each lane's last turn and returns the first lane whose last turn has not changed for
  // longer than the limit; InfiniteFuture is that of a lane that has stopped and owes no more. Times
  // of the lanes and `now` need not come from the same clock.
  std::optional<size_t> FirstStalled(const std::vector<absl::Time>& last_turns, absl::Time now);

 private:
  struct Seen {
    absl::Time last_turn = absl::InfinitePast();
    absl::Time changed = absl::InfinitePast();
  };
  const absl::Duration limit_;
  std::vector<Seen> lanes_;
};

// A thread that calls `vouch` four times in each `timeout` while no lane has stood still for half
// of it.
class Watchdog {
 public:
  Watchdog(absl::Duration timeout, std::function<std::vector<absl::Time>()> last_turns,
           std::function<void()> vouch);
  ~Watchdog();

 private:
  void Run();

  const absl::Duration timeout_;
  const std::function<std::vector<absl::Time>()> last_turns_;
  const std::function<void()> vouch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_WATCHDOG_H_
