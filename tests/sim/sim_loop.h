// Simulated time: `SimLoop` runs closures in time order; `SimClock` is the Scheduler of one process
// in it, whose clock runs at a rate of its own and whose thread can be stopped for a while, as by
// SIGSTOP.
//
// One thread.
#ifndef LATENTD_TESTS_SIM_SIM_LOOP_H_
#define LATENTD_TESTS_SIM_SIM_LOOP_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <utility>

#include "absl/time/time.h"
#include "daemon/etcd/scheduler.h"

namespace latentd::sim {

class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : engine_(seed) {}

  uint64_t Bits() { return engine_(); }
  uint64_t Below(uint64_t end) { return engine_() % end; }  // REQUIRES: end > 0
  bool Chance(double probability) { return Real() < probability; }
  double Real() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  absl::Duration Between(absl::Duration least, absl::Duration most) {
    return least + (most - least) * Real();
  }

 private:
  std::mt19937_64 engine_;
};

class SimLoop {
 public:
  absl::Time now() const { return now_; }
  void At(absl::Time time, std::function<void()> closure) {
    events_.emplace(std::pair(std::max(time, now_), next_++), std::move(closure));
  }
  void After(absl::Duration delay, std::function<void()> closure) {
    At(now_ + delay, std::move(closure));
  }
  void RunUntil(absl::Time end) {
    while (!events_.empty() && events_.begin()->first.first <= end) {
      auto event = events_.extract(events_.begin());
      now_ = event.key().first;
      ++ran_;
      event.mapped()();
    }
    now_ = end;
  }
  uint64_t ran() const { return ran_; }

 private:
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  uint64_t next_ = 0;
  uint64_t ran_ = 0;
  std::map<std::pair<absl::Time, uint64_t>, std::function<void()>> events_;
};

class SimClock : public Scheduler {
 public:
  SimClock(SimLoop* loop, double rate) : loop_(loop), rate_(rate), start_(loop->now()) {}

  absl::Time now() const override { return start_ + (loop_->now() - start_) * rate_; }
  TimerId After(absl::Duration delay, std::function<void()> closure) override;
  void Cancel(TimerId timer) override { timers_.erase(timer); }

  // On the process's thread: now, or when it goes on. Never once the process is gone.
  void Run(std::function<void()> closure);
  void Pause() { paused_ = true; }
  void Resume();
  bool paused() const { return paused_; }

 private:
  SimLoop* const loop_;
  const double rate_;
  const absl::Time start_;
  bool paused_ = false;
  uint64_t next_timer_ = 1;
  std::set<TimerId> timers_;
  std::deque<std::function<void()>> waiting_;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace latentd::sim

#endif  // LATENTD_TESTS_SIM_SIM_LOOP_H_
