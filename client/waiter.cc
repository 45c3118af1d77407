#include "client/waiter.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/status/status.h"
#include "client/clock.h"

namespace latentd {

absl::StatusOr<std::unique_ptr<Waiter>> Waiter::Create(int worker_fd, int wake_fd) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return absl::ErrnoToStatus(errno, "epoll_create1");
  const int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (timer_fd < 0) {
    const absl::Status status = absl::ErrnoToStatus(errno, "timerfd_create");
    close(epoll_fd);
    return status;
  }
  auto waiter = std::unique_ptr<Waiter>(new Waiter(epoll_fd, timer_fd));
  for (const int fd : {worker_fd, wake_fd, timer_fd}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
      return absl::ErrnoToStatus(errno, "epoll_ctl");
  }
  return waiter;
}

Waiter::~Waiter() {
  close(timer_fd_);
  close(epoll_fd_);
}

void Waiter::SetTimer(uint64_t due_ns) {
  itimerspec spec{};
  if (due_ns != kNever) {
    // All zero would disarm it.
    const uint64_t ns = std::max<uint64_t>(due_ns, 1);
    spec.it_value.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
    spec.it_value.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  }
  // Setting it anew also takes back an expiry that nobody read.
  timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &spec, nullptr);
}

void Waiter::Wait() {
  pollfd entry{.fd = epoll_fd_, .events = POLLIN, .revents = 0};
  poll(&entry, 1, -1);
}

}  // namespace latentd
