// `EventLoop` is the real `Scheduler`: one thread that runs timers and posted closures, one after
// the other, so that what lives on it needs no locks.
//
// Post, OnThread and now: any thread. After and Cancel: the loop's thread, or any one thread once
// the loop has stopped. What lives on the loop is destroyed there, or after Stop; before the loop.
#ifndef LATENTD_DAEMON_ETCD_EVENT_LOOP_H_
#define LATENTD_DAEMON_ETCD_EVENT_LOOP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/etcd/scheduler.h"

namespace latentd {

class EventLoop : public Scheduler {
 public:
  // `name` is the thread's, for people who look at the process; 15 characters count.
  static absl::StatusOr<std::unique_ptr<EventLoop>> Start(std::string name);
  // Stops.
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Closures of one thread run in the order in which it posted them. Nothing happens after Stop.
  void Post(std::function<void()> closure);
  // Ends the thread after the closure that it is in, and joins it. What has not run never will. Not
  // on the loop's own thread.
  void Stop();
  bool OnThread() const { return std::this_thread::get_id() == thread_.get_id(); }

  // CLOCK_BOOTTIME.
  absl::Time now() const override;
  TimerId After(absl::Duration delay, std::function<void()> closure) override;
  void Cancel(TimerId timer) override;

 private:
  using Due = std::pair<absl::Time, uint64_t>;  // the second: order among equals, and the TimerId

  EventLoop(int wake_fd, int timer_fd) : wake_fd_(wake_fd), timer_fd_(timer_fd) {}

  void Run();
  void RunDueTimers();
  void Wait();

  const int wake_fd_;   // eventfd
  const int timer_fd_;  // of CLOCK_BOOTTIME, which no condition variable waits for
  std::thread thread_;

  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // guarded by mutex_
  std::atomic<bool> stopping_ = false;

  // Of the loop's thread.
  uint64_t next_timer_ = 1;
  std::map<Due, std::function<void()>> timers_;
  std::unordered_map<uint64_t, absl::Time> due_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_EVENT_LOOP_H_
