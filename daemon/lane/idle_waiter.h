// `IdleWaiter` decides whether an idle lane spins or sleeps, and sleeps: on UCX's event descriptor
// and the mailbox's, so that either a message or a posted closure ends the sleep.
//
// Lane thread only.
#ifndef LATENTD_DAEMON_LANE_IDLE_WAITER_H_
#define LATENTD_DAEMON_LANE_IDLE_WAITER_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/lane/lane_options.h"

namespace latentd {

class IdleWaiter {
 public:
  // The descriptors must outlive it. RESOURCE_EXHAUSTED when there is no file descriptor left.
  static absl::StatusOr<std::unique_ptr<IdleWaiter>> Create(IdlePolicy policy, absl::Duration spin,
                                                            int worker_fd, int mailbox_fd);
  ~IdleWaiter();
  IdleWaiter(const IdleWaiter&) = delete;
  IdleWaiter& operator=(const IdleWaiter&) = delete;

  // To be called after a turn in which something happened.
  void NoteWork(absl::Time now) { last_work_ = now; }
  // To be called after a turn in which nothing happened: returns at once while the policy spins,
  // else sleeps until an event or `wake_at`. `arm` makes the worker's descriptor report events;
  // false: there is one already.
  void Wait(absl::Time now, absl::Time wake_at, const std::function<bool()>& arm);

 private:
  IdleWaiter(IdlePolicy policy, absl::Duration spin, int epoll_fd)
      : policy_(policy), spin_(spin), epoll_fd_(epoll_fd) {}

  const IdlePolicy policy_;
  const absl::Duration spin_;
  const int epoll_fd_;
  absl::Time last_work_ = absl::InfinitePast();
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_IDLE_WAITER_H_
