// `GrpcLoop` is one thread that runs asynchronous gRPC calls, timers and posted closures, one after
// the other: what runs on it needs no locks among itself.
//
// Post may be called from any thread; the rest, but for construction, Start and Stop, on the loop's
// thread.
#ifndef LATENTD_CLIENT_GRPC_LOOP_H_
#define LATENTD_CLIENT_GRPC_LOOP_H_

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "grpcpp/alarm.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/support/async_unary_call.h"
#include "grpcpp/support/status.h"

namespace latentd {

class GrpcLoop {
 public:
  GrpcLoop() = default;
  // Stops.
  ~GrpcLoop();
  GrpcLoop(const GrpcLoop&) = delete;
  GrpcLoop& operator=(const GrpcLoop&) = delete;

  void Start();
  // Runs until `done` says so or `patience` is over, then starts no unary call any more, cancels
  // those that are out, and joins the thread once every tag has come back. `cancel` runs on the
  // loop's thread to end calls that are not unary.
  void Stop(absl::Duration patience, std::function<bool()> done, std::function<void()> cancel);

  void Post(std::function<void()> work);
  void After(absl::Duration delay, std::function<void()> work);

  grpc::CompletionQueue* queue() { return &queue_; }
  // A tag for the queue: `done` runs once, on the loop's thread.
  void* Tag(std::function<void(bool)> done) {
    ++tags_out_;
    return new std::function<void(bool)>([this, done = std::move(done)](bool ok) {
      --tags_out_;
      done(ok);
    });
  }

  // Runs one unary call; `done(status, response)` runs on the loop's thread. `start` is a stub's
  // Async method. Nothing happens, and `done` never runs, when the loop is stopping.
  template <typename Response, typename Start>
  void Unary(absl::Duration timeout, Start start,
             std::function<void(grpc::Status, Response)> done) {
    if (stopping_) return;
    struct Call {
      grpc::ClientContext context;
      Response response;
      grpc::Status status;
      std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader;
    };
    auto call = std::make_shared<Call>();
    call->context.set_deadline(std::chrono::system_clock::now() +
                               absl::ToChronoMilliseconds(timeout));
    const uint64_t id = next_call_++;
    contexts_[id] = &call->context;
    call->reader = start(&call->context, &queue_);
    call->reader->Finish(&call->response, &call->status,
                         Tag([this, id, call, done = std::move(done)](bool) {
                           contexts_.erase(id);
                           done(call->status, std::move(call->response));
                         }));
  }

  bool stopping() const { return stopping_; }

 private:
  using Clock = std::chrono::steady_clock;

  void Run();
  void RunPosted();
  void CloseWhenQuiet();
  void RunDueTimers();

  grpc::CompletionQueue queue_;
  std::thread thread_;
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
  bool wake_pending_ = false;  // guarded by mutex_
  bool closed_ = false;        // guarded by mutex_: the queue takes no more tags
  // Of the loop's thread.
  bool stopping_ = false;
  uint64_t tags_out_ = 0;
  std::multimap<Clock::time_point, std::function<void()>> timers_;
  uint64_t next_call_ = 1;
  std::map<uint64_t, grpc::ClientContext*> contexts_;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_GRPC_LOOP_H_
