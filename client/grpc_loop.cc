#include "client/grpc_loop.h"

#include <algorithm>
#include <utility>

namespace latentd {

GrpcLoop::~GrpcLoop() {
  Stop(
      absl::ZeroDuration(), [] { return true; }, [] {});
}

void GrpcLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

void GrpcLoop::Post(std::function<void()> work) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return;
  posted_.push_back(std::move(work));
  if (wake_pending_) return;
  wake_pending_ = true;
  auto alarm = std::make_shared<grpc::Alarm>();
  alarm->Set(&queue_, gpr_inf_past(GPR_CLOCK_MONOTONIC),
             new std::function<void(bool)>([this, alarm](bool) { RunPosted(); }));
}

void GrpcLoop::After(absl::Duration delay, std::function<void()> work) {
  timers_.emplace(Clock::now() + absl::ToChronoNanoseconds(delay), std::move(work));
}

void GrpcLoop::RunPosted() {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    wake_pending_ = false;
    work.swap(posted_);
  }
  for (auto& item : work) item();
}

void GrpcLoop::RunDueTimers() {
  const Clock::time_point now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    auto work = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    work();
  }
}

void GrpcLoop::Run() {
  while (true) {
    // gRPC's deadlines are of the wall clock: a jump of it delays a timer by at most this much.
    auto wait = std::chrono::duration_cast<Clock::duration>(std::chrono::seconds(1));
    if (!timers_.empty())
      wait = std::clamp(timers_.begin()->first - Clock::now(), Clock::duration::zero(), wait);
    void* tag = nullptr;
    bool ok = false;
    switch (queue_.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + wait)) {
      case grpc::CompletionQueue::SHUTDOWN:
        return;
      case grpc::CompletionQueue::GOT_EVENT: {
        const std::unique_ptr<std::function<void(bool)>> done(
            static_cast<std::function<void(bool)>*>(tag));
        (*done)(ok);
        break;
      }
      case grpc::CompletionQueue::TIMEOUT:
        break;
    }
    RunDueTimers();
  }
}

// A cancelled stream still wants to be read to its end, which a queue that is shut down refuses.
void GrpcLoop::CloseWhenQuiet() {
  if (tags_out_ > 0) {
    After(absl::Milliseconds(1), [this] { CloseWhenQuiet(); });
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  queue_.Shutdown();
}

void GrpcLoop::Stop(absl::Duration patience, std::function<bool()> done,
                    std::function<void()> cancel) {
  if (!thread_.joinable()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!std::exchange(closed_, true)) queue_.Shutdown();
    return;
  }
  const Clock::time_point give_up = Clock::now() + absl::ToChronoNanoseconds(patience);
  // Asks again every few milliseconds; closes the queue on the loop's thread, between two
  // callbacks.
  std::function<void()> poll = [&] {
    if (!done() && Clock::now() < give_up) {
      After(absl::Milliseconds(2), poll);
      return;
    }
    stopping_ = true;
    timers_.clear();
    cancel();
    for (auto& [id, context] : contexts_) context->TryCancel();
    CloseWhenQuiet();
  };
  Post(poll);
  thread_.join();
}

}  // namespace latentd
