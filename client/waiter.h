// `Waiter` makes one descriptor out of the three things that can wake a data thread: the worker's
// event descriptor, the control thread's wake, and a time. Data thread only.
#ifndef LATENTD_CLIENT_WAITER_H_
#define LATENTD_CLIENT_WAITER_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace latentd {

class Waiter {
 public:
  static absl::StatusOr<std::unique_ptr<Waiter>> Create(int worker_fd, int wake_fd);
  ~Waiter();
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  // Readable when any of the three is.
  int fd() const { return epoll_fd_; }
  // From now on readable at this time of the steady clock too; kNever: at no time.
  void SetTimer(uint64_t due_ns);
  // Blocks until readable.
  void Wait();

 private:
  Waiter(int epoll_fd, int timer_fd) : epoll_fd_(epoll_fd), timer_fd_(timer_fd) {}

  const int epoll_fd_;
  const int timer_fd_;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_WAITER_H_
