// `Mailbox` is how other threads reach a lane: they post closures, the lane's thread runs them. The
// lane looks at one atomic each turn and takes the lock only when something is there; while it
// sleeps, an eventfd wakes it.
//
// Post and Close: any thread. Run and fd: the lane's thread.
#ifndef LATENTD_DAEMON_LANE_MAILBOX_H_
#define LATENTD_DAEMON_LANE_MAILBOX_H_

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"

namespace latentd {

class Mailbox {
 public:
  // RESOURCE_EXHAUSTED when the process has no file descriptor left.
  static absl::StatusOr<std::unique_ptr<Mailbox>> Create();
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // False once closed: the closure will not run.
  bool Post(std::function<void()> closure);
  // Runs what was posted so far, in order. True if there was anything.
  bool Run();
  // Closures posted before still run with the next Run.
  void Close();

  bool pending() const { return pending_.load(std::memory_order_acquire); }
  // Readable from Post until Run.
  int fd() const { return fd_; }

 private:
  explicit Mailbox(int fd) : fd_(fd) {}

  const int fd_;
  std::atomic<bool> pending_{false};
  std::mutex mutex_;
  bool closed_ = false;
  std::vector<std::function<void()>> posted_;
  std::vector<std::function<void()>> running_;  // the lane's; kept for its capacity
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_MAILBOX_H_
