#include "daemon/lane/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {

absl::StatusOr<std::unique_ptr<Mailbox>> Mailbox::Create() {
  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot make a lane's eventfd: ", strerror(errno)));
  }
  return std::unique_ptr<Mailbox>(new Mailbox(fd));
}

Mailbox::~Mailbox() { close(fd_); }

bool Mailbox::Post(std::function<void()> closure) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return false;
    posted_.push_back(std::move(closure));
    pending_.store(true, std::memory_order_release);
  }
  // An eventfd that is already readable may refuse the write: the lane wakes either way.
  const uint64_t one = 1;
  (void)!write(fd_, &one, sizeof(one));
  return true;
}

bool Mailbox::Run() {
  if (!pending()) return false;
  // Emptied before the closures are taken: what is posted in between wakes the lane once too often,
  // never too rarely.
  uint64_t count = 0;
  (void)!read(fd_, &count, sizeof(count));
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    running_.swap(posted_);
    pending_.store(false, std::memory_order_release);
  }
  for (const auto& closure : running_) closure();
  running_.clear();
  return true;
}

void Mailbox::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
}

}  // namespace latentd
