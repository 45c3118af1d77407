// gRPC calls whose ends are told on an `EventLoop`: `RpcSet` owns those that are out, so that
// whoever makes them can go away at any time.
//
// The loop's thread only, or any one thread once the loop has stopped.
#ifndef LATENTD_DAEMON_ETCD_RPC_H_
#define LATENTD_DAEMON_ETCD_RPC_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>
#include <grpcpp/support/status.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "daemon/etcd/event_loop.h"

namespace latentd {

// One call that was started.
class Rpc {
 public:
  Rpc() = default;
  virtual ~Rpc() = default;
  Rpc(const Rpc&) = delete;
  Rpc& operator=(const Rpc&) = delete;

  // Ends it soon, if it has not ended.
  virtual void Cancel() { context_.TryCancel(); }

 protected:
  grpc::ClientContext context_;
};

// What a call carries besides its request. `token`: of etcd, or empty.
struct RpcMetadata {
  std::string token;
  absl::Duration deadline = absl::InfiniteDuration();  // from now
};

class RpcSet {
 public:
  explicit RpcSet(EventLoop* loop);
  // Cancels all calls and waits until gRPC has let go of them, which takes no answer from anybody.
  // Their ends are not told.
  ~RpcSet();

  // `start(context, request, response, done)` is a stub's async() method; `end(status, response)`
  // runs on the loop.
  template <typename Response, typename Request, typename Start>
  std::shared_ptr<Rpc> Unary(const RpcMetadata& metadata, Request request, Start start,
                             std::function<void(const grpc::Status&, Response&)> end);

  // `start(context, reactor)` is a stub's async() method. `on_message` and, when the other side
  // ends it, `on_end` run on the loop, until Cancel.
  template <typename Request, typename Response>
  class Stream;
  template <typename Request, typename Response, typename Start>
  std::shared_ptr<Stream<Request, Response>> Open(const RpcMetadata& metadata, Start start,
                                                  std::function<void(Response&)> on_message,
                                                  std::function<void(const grpc::Status&)> on_end);

 private:
  // What outlives the set: calls that gRPC still holds refer to it.
  struct Shared {
    explicit Shared(EventLoop* loop) : loop(loop) {}
    void Enter(std::shared_ptr<Rpc> rpc);
    // Any thread: runs `closure` on the loop, unless the set has gone by then.
    void Post(const std::shared_ptr<Shared>& self, std::function<void()> closure);
    // Any thread; the last that a call does.
    void Leave(const std::shared_ptr<Rpc>& rpc);

    EventLoop* const loop;
    std::atomic<bool> closed = false;
    std::mutex mutex;
    std::condition_variable all_left;
    std::set<std::shared_ptr<Rpc>> out;  // guarded by mutex
  };

  template <typename Request, typename Response>
  class UnaryRpc;

  static void Prepare(const RpcMetadata& metadata, grpc::ClientContext& context);

  const std::shared_ptr<Shared> shared_;
};

template <typename Request, typename Response>
class RpcSet::UnaryRpc : public Rpc {
 public:
  grpc::ClientContext& context() { return context_; }
  Request request;
  Response response;
};

template <typename Response, typename Request, typename Start>
std::shared_ptr<Rpc> RpcSet::Unary(const RpcMetadata& metadata, Request request, Start start,
                                   std::function<void(const grpc::Status&, Response&)> end) {
  const auto rpc = std::make_shared<UnaryRpc<Request, Response>>();
  Prepare(metadata, rpc->context());
  rpc->request = std::move(request);
  shared_->Enter(rpc);
  start(&rpc->context(), &rpc->request, &rpc->response,
        [shared = shared_, rpc, end = std::move(end)](grpc::Status status) {
          shared->Post(shared, [rpc, end, status] { end(status, rpc->response); });
          shared->Leave(rpc);
        });
  return rpc;
}

template <typename Request, typename Response>
class RpcSet::Stream : public Rpc,
                       private grpc::ClientBidiReactor<Request, Response>,
                       public std::enable_shared_from_this<Stream<Request, Response>> {
 public:
  void Write(Request request) {
    writes_.push_back(std::move(request));
    if (writes_.size() == 1 && !released_) this->StartWrite(&writes_.front());
  }

  void Cancel() override {
    on_message_ = nullptr;
    on_end_ = nullptr;
    context_.TryCancel();
    Release();
  }

 private:
  friend class RpcSet;
  using Reactor = grpc::ClientBidiReactor<Request, Response>;

  // Writes are started by the loop at any time, so the call must not be done before the loop has
  // let go of it: that is what the hold is for.
  void Release() {
    if (!std::exchange(released_, true)) this->RemoveHold();
  }

  void HandleMessage() {
    // It may be replaced or destroyed by what it calls.
    if (const auto on_message = on_message_) on_message(response_);
    if (released_) return;
    response_.Clear();
    this->StartRead(&response_);
  }

  void OnReadDone(bool ok) override {
    shared_->Post(shared_, [self = this->shared_from_this(), ok] {
      if (self->released_) return;
      ok ? self->HandleMessage() : self->Release();
    });
  }

  void OnWriteDone(bool ok) override {
    shared_->Post(shared_, [self = this->shared_from_this(), ok] {
      self->writes_.pop_front();
      if (ok && !self->writes_.empty() && !self->released_) {
        self->StartWrite(&self->writes_.front());
      }
    });
  }

  void OnDone(const grpc::Status& status) override {
    const auto self = this->shared_from_this();
    shared_->Post(shared_, [self, status] {
      if (const auto on_end = std::exchange(self->on_end_, nullptr)) on_end(status);
    });
    shared_->Leave(self);
  }

  std::shared_ptr<Shared> shared_;
  std::function<void(Response&)> on_message_;
  std::function<void(const grpc::Status&)> on_end_;
  Response response_;
  std::deque<Request> writes_;  // the first is under way
  bool released_ = false;
};

template <typename Request, typename Response, typename Start>
std::shared_ptr<RpcSet::Stream<Request, Response>> RpcSet::Open(
    const RpcMetadata& metadata, Start start, std::function<void(Response&)> on_message,
    std::function<void(const grpc::Status&)> on_end) {
  const auto stream = std::make_shared<Stream<Request, Response>>();
  Prepare(metadata, stream->context_);
  stream->shared_ = shared_;
  stream->on_message_ = std::move(on_message);
  stream->on_end_ = std::move(on_end);
  shared_->Enter(stream);
  start(&stream->context_, static_cast<grpc::ClientBidiReactor<Request, Response>*>(stream.get()));
  stream->AddHold();
  stream->StartRead(&stream->response_);
  stream->StartCall();
  return stream;
}

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_RPC_H_
