#include "daemon/etcd/event_loop.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

constexpr size_t kMaxThreadName = 15;                        // pthread_setname_np
constexpr absl::Duration kForEver = absl::Hours(1'000'000);  // a timerfd can be set to it

void Drain(int fd) {
  uint64_t count = 0;
  (void)!read(fd, &count, sizeof(count));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Start(std::string name) {
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat(name, ": eventfd"));
  const int timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer_fd < 0) {
    const int error = errno;
    close(wake_fd);
    return absl::ErrnoToStatus(error, absl::StrCat(name, ": timerfd_create"));
  }
  std::unique_ptr<EventLoop> loop(new EventLoop(wake_fd, timer_fd));
  loop->thread_ = std::thread([raw = loop.get()] { raw->Run(); });
  pthread_setname_np(loop->thread_.native_handle(), name.substr(0, kMaxThreadName).c_str());
  return loop;
}

EventLoop::~EventLoop() {
  Stop();
  close(wake_fd_);
  close(timer_fd_);
}

void EventLoop::Post(std::function<void()> closure) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return;
  posted_.push_back(std::move(closure));
  if (posted_.size() == 1) eventfd_write(wake_fd_, 1);
}

void EventLoop::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    eventfd_write(wake_fd_, 1);
  }
  if (thread_.joinable()) thread_.join();
  // What they hold may call back into the loop as it goes.
  std::vector<std::function<void()>>().swap(posted_);
  due_.clear();
  std::map<Due, std::function<void()>>().swap(timers_);
}

absl::Time EventLoop::now() const {
  timespec time{};
  clock_gettime(CLOCK_BOOTTIME, &time);
  return absl::UnixEpoch() + absl::DurationFromTimespec(time);
}

TimerId EventLoop::After(absl::Duration delay, std::function<void()> closure) {
  const uint64_t id = next_timer_++;
  const absl::Time due = now() + std::clamp(delay, absl::ZeroDuration(), kForEver);
  timers_.emplace(Due(due, id), std::move(closure));
  due_.emplace(id, due);
  return TimerId{id};
}

void EventLoop::Cancel(TimerId timer) {
  const auto entry = due_.find(static_cast<uint64_t>(timer));
  if (entry == due_.end()) return;
  timers_.erase(Due(entry->second, entry->first));
  due_.erase(entry);
}

void EventLoop::Run() {
  while (!stopping_) {
    Wait();
    std::vector<std::function<void()>> work;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      work.swap(posted_);
    }
    for (auto& closure : work) {
      if (stopping_) return;
      closure();
      closure = nullptr;  // before the next one runs
    }
    RunDueTimers();
  }
}

// Those due now; what they add waits for the next turn, so that posted closures get theirs.
void EventLoop::RunDueTimers() {
  const absl::Time turn = now();
  const uint64_t newest = next_timer_;
  while (!timers_.empty() && !stopping_) {
    const auto first = timers_.begin();
    const auto [due, id] = first->first;
    if (due > turn || id >= newest) return;
    const std::function<void()> closure = std::move(first->second);
    timers_.erase(first);
    due_.erase(id);
    closure();
  }
}

// Until there is something posted or a timer is due.
void EventLoop::Wait() {
  itimerspec alarm{};  // zero: none
  if (!timers_.empty()) {
    alarm.it_value = absl::ToTimespec(timers_.begin()->first.first - absl::UnixEpoch());
  }
  timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &alarm, nullptr);
  pollfd fds[] = {{wake_fd_, POLLIN, 0}, {timer_fd_, POLLIN, 0}};
  poll(fds, 2, -1);
  Drain(wake_fd_);
  Drain(timer_fd_);
}

}  // namespace latentd
