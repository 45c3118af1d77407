// What an object that lives on a scheduler needs so that nothing calls it when it is gone: a timer
// of its own, and a guard for callbacks that others hold.
//
// The scheduler's thread only.
#ifndef LATENTD_DAEMON_MEMBERSHIP_TIMER_H_
#define LATENTD_DAEMON_MEMBERSHIP_TIMER_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "daemon/etcd/scheduler.h"

namespace latentd {

// Runs its action once for each time that it is set; set again before that, at the earlier time.
class Timer {
 public:
  Timer(Scheduler* scheduler, std::function<void()> action)
      : scheduler_(scheduler), action_(std::move(action)) {}
  ~Timer() { Cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void Set(absl::Duration delay) {
    const absl::Time due = scheduler_->now() + delay;
    if (id_ != TimerId{} && due_ <= due) return;
    Cancel();
    due_ = due;
    id_ = scheduler_->After(delay, [this] {
      id_ = {};
      action_();
    });
  }
  void Cancel() {
    if (id_ != TimerId{}) scheduler_->Cancel(id_);
    id_ = {};
  }
  bool pending() const { return id_ != TimerId{}; }

 private:
  Scheduler* const scheduler_;
  const std::function<void()> action_;
  TimerId id_{};
  absl::Time due_;
};

// Callbacks made by Guard do nothing once this is gone.
class Lifetime {
 public:
  template <typename F>
  auto Guard(F callback) const {
    return [watch = std::weak_ptr<const int>(token_),
            callback = std::move(callback)](auto&&... arguments) {
      if (!watch.expired()) callback(std::forward<decltype(arguments)>(arguments)...);
    };
  }

 private:
  const std::shared_ptr<const int> token_ = std::make_shared<const int>(0);
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_TIMER_H_
