#include "daemon/replication/peer_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "client/clock.h"

namespace latentd {
namespace {

// Answers of peers come in some tens of microseconds while records flow.
constexpr uint64_t kSpinNs = 50'000;

}  // namespace

absl::StatusOr<std::unique_ptr<PeerThread>> PeerThread::Create(PeerClientOptions options) {
  auto thread = std::unique_ptr<PeerThread>(new PeerThread());
  thread->wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (thread->wake_fd_ < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("eventfd: ", std::strerror(errno)));
  }
  auto client = PeerClient::Create(std::move(options), [thread = thread.get()](auto closure) {
    thread->Post(std::move(closure));
  });
  if (!client.ok()) return client.status();
  thread->client_ = *std::move(client);
  auto waiter = Waiter::Create(thread->client_->event_fd(), thread->wake_fd_);
  if (!waiter.ok()) return waiter.status();
  thread->waiter_ = *std::move(waiter);
  return thread;
}

PeerThread::~PeerThread() {
  Stop();
  waiter_.reset();
  client_.reset();
  if (wake_fd_ >= 0) close(wake_fd_);
}

void PeerThread::Start() {
  thread_ = std::thread([this] { Run(); });
}

void PeerThread::Stop(const std::function<void()>& last) {
  if (stopping_.exchange(true)) return;
  if (thread_.joinable()) {
    Post([] {});
    thread_.join();
  }
  // From here on this is the only thread.
  last();
  // Records of answers that were posted go before the client.
  while (RunPosted()) {
  }
  client_.reset();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
  }
  while (RunPosted()) {
  }
  timers_.clear();
  due_.clear();
}

bool PeerThread::Post(std::function<void()> closure) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return false;
    posted_.push_back(std::move(closure));
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
  return true;
}

absl::Time PeerThread::now() const { return SteadyTime(SteadyNanos()); }

TimerId PeerThread::After(absl::Duration delay, std::function<void()> closure) {
  const uint64_t id = next_timer_++;
  const absl::Time due = now() + std::max(delay, absl::ZeroDuration());
  timers_[{due, id}] = std::move(closure);
  due_[id] = due;
  return TimerId{id};
}

void PeerThread::Cancel(TimerId timer) {
  const auto id = static_cast<uint64_t>(timer);
  const auto due = due_.find(id);
  if (due == due_.end()) return;
  timers_.erase({due->second, id});
  due_.erase(due);
}

void PeerThread::Run() {
  uint64_t idle_since_ns = SteadyNanos();
  while (!stopping_) {
    if (Turn()) {
      idle_since_ns = SteadyNanos();
    } else if (client_->in_flight() == 0 || SteadyNanos() - idle_since_ns > kSpinNs) {
      Sleep();
    } else {
      std::this_thread::yield();
    }
  }
}

bool PeerThread::Turn() {
  bool busy = client_->Progress();
  busy = RunPosted() || busy;
  return RunTimers() || busy;
}

bool PeerThread::RunPosted() {
  std::vector<std::function<void()>> posted;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    posted.swap(posted_);
  }
  for (const auto& closure : posted) closure();
  return !posted.empty();
}

bool PeerThread::RunTimers() {
  bool any = false;
  const absl::Time start = now();
  while (!timers_.empty() && timers_.begin()->first.first <= start) {
    auto first = timers_.extract(timers_.begin());
    due_.erase(first.key().second);
    first.mapped()();
    any = true;
  }
  return any;
}

void PeerThread::Sleep() {
  uint64_t due_ns = client_->next_timer_ns();
  if (!timers_.empty()) due_ns = std::min(due_ns, SteadyNanosOf(timers_.begin()->first.first));
  if (due_ns <= SteadyNanos() || !client_->Arm()) return;
  waiter_->SetTimer(due_ns);
  waiter_->Wait();
  uint64_t count;
  [[maybe_unused]] const ssize_t bytes = read(wake_fd_, &count, sizeof(count));
}

}  // namespace latentd
