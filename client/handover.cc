#include "client/handover.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <iterator>
#include <utility>

namespace latentd {

// Without the descriptor (-1: none left in this process) a sleeping data thread is woken by its
// timer only.
Handover::Handover() : wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

Handover::~Handover() {
  if (wake_fd_ >= 0) close(wake_fd_);
}

void Handover::Push(ControlEvent event) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    events_.push_back(std::move(event));
    has_events_.store(true, std::memory_order_release);
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

void Handover::Take(std::vector<ControlEvent>* events) {
  if (!has_events()) return;
  const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  events->insert(events->end(), std::make_move_iterator(events_.begin()),
                 std::make_move_iterator(events_.end()));
  events_.clear();
  has_events_.store(false, std::memory_order_relaxed);
}

void Handover::ClearWake() {
  uint64_t count;
  [[maybe_unused]] const ssize_t bytes = read(wake_fd_, &count, sizeof(count));
}

}  // namespace latentd
