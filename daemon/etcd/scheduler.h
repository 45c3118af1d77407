// `Scheduler` is a thread that runs closures in time order, or what a simulation puts in its place:
// the clock and the timers of whatever must behave the same on both.
//
// Thread rule: everything on the scheduler's own thread.
#ifndef LATENTD_DAEMON_ETCD_SCHEDULER_H_
#define LATENTD_DAEMON_ETCD_SCHEDULER_H_

#include <cstdint>
#include <functional>

#include "absl/time/time.h"

namespace latentd {

enum class TimerId : uint64_t {};  // 0: none

class Scheduler {
 public:
  virtual ~Scheduler() = default;

  // Steady: never goes back, and does not follow changes of the date. Only differences mean
  // anything. It counts time that the machine was suspended.
  virtual absl::Time now() const = 0;
  // Runs `closure` once, not before `delay` has passed.
  virtual TimerId After(absl::Duration delay, std::function<void()> closure) = 0;
  // Nothing happens if it has run.
  virtual void Cancel(TimerId timer) = 0;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_SCHEDULER_H_
