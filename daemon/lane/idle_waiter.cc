#include "daemon/lane/idle_waiter.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"

namespace latentd {

absl::StatusOr<std::unique_ptr<IdleWaiter>> IdleWaiter::Create(IdlePolicy policy,
                                                               absl::Duration spin, int worker_fd,
                                                               int mailbox_fd) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot make a lane's epoll descriptor: ", strerror(errno)));
  }
  auto waiter = std::unique_ptr<IdleWaiter>(new IdleWaiter(policy, spin, epoll_fd));
  for (const int fd : {worker_fd, mailbox_fd}) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
      return absl::InternalError(
          absl::StrCat("cannot watch a lane's descriptor ", fd, ": ", strerror(errno)));
    }
  }
  return waiter;
}

IdleWaiter::~IdleWaiter() { close(epoll_fd_); }

void IdleWaiter::Wait(absl::Time now, absl::Time wake_at, const std::function<bool()>& arm) {
  if (policy_ == IdlePolicy::kPoll) return;
  if (policy_ == IdlePolicy::kAdaptive && now - last_work_ < spin_) {
    // Whoever it waits for may need this core.
    std::this_thread::yield();
    return;
  }
  const absl::Duration left = wake_at - now;
  // Rounded up: waking a moment too early would only spin until the moment.
  const int64_t timeout_ms =
      std::clamp<int64_t>(absl::ToInt64Milliseconds(left + absl::Microseconds(999)), 0, 60'000);
  if (timeout_ms == 0 || !arm()) return;
  epoll_event events[2];
  (void)epoll_wait(epoll_fd_, events, 2, static_cast<int>(timeout_ms));
}

}  // namespace latentd
