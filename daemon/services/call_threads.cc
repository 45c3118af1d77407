#include "daemon/services/call_threads.h"

#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {

// Shared with the threads, which look at it last.
struct CallThreads::Count {
  std::mutex mutex;
  std::condition_variable changed;
  size_t calls = 0;

  bool Begin(size_t max) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (calls >= max) return false;
    ++calls;
    return true;
  }
  void End() {
    const std::lock_guard<std::mutex> lock(mutex);
    --calls;
    changed.notify_all();
  }
};

CallThreads::CallThreads(size_t max_calls)
    : max_calls_(max_calls), count_(std::make_shared<Count>()) {}

CallThreads::~CallThreads() {
  std::unique_lock<std::mutex> lock(count_->mutex);
  count_->changed.wait(lock, [&] { return count_->calls == 0; });
}

grpc::ServerUnaryReactor* CallThreads::Run(grpc::CallbackServerContext* context,
                                           std::function<grpc::Status()> call) {
  if (!count_->Begin(max_calls_)) {
    return Answer(context, grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                        absl::StrCat("control plane: ", max_calls_,
                                                     " such calls are under way already")));
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  try {
    std::thread([count = count_, call = std::move(call), reactor] {
      reactor->Finish(call());
      count->End();
    }).detach();
  } catch (const std::system_error&) {
    count_->End();
    reactor->Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                 "control plane: no thread is left for the call"));
  }
  return reactor;
}

}  // namespace latentd
