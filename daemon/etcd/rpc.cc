#include "daemon/etcd/rpc.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <chrono>
#include <vector>

namespace latentd {
namespace {

// gRPC's callback threads end with the last channel that used them. With 1.51 that is a double free
// now and then, in the queue that they read: a thread that lets go of that channel joins itself. So
// a channel to nowhere keeps them for as long as the process lives.
struct CallbackThreads {
  CallbackThreads()
      : channel(grpc::CreateChannel("", nullptr)), stub(channel), slice(""), request(&slice, 1) {
    stub.UnaryCall(&context, "/nobody/Nothing", grpc::StubOptions(), &request, &response,
                   [](const grpc::Status&) {});
  }
  std::shared_ptr<grpc::Channel> channel;
  grpc::GenericStub stub;
  grpc::ClientContext context;
  grpc::Slice slice;
  grpc::ByteBuffer request;
  grpc::ByteBuffer response;
};

}  // namespace

RpcSet::RpcSet(EventLoop* loop) : shared_(std::make_shared<Shared>(loop)) {
  // "used": the leak checker must see that something refers to it.
  [[gnu::used]] static const auto* const kept = new CallbackThreads;
}

RpcSet::~RpcSet() {
  shared_->closed = true;
  std::unique_lock<std::mutex> lock(shared_->mutex);
  const std::vector<std::shared_ptr<Rpc>> out(shared_->out.begin(), shared_->out.end());
  lock.unlock();
  for (const auto& rpc : out) rpc->Cancel();
  lock.lock();
  shared_->all_left.wait(lock, [this] { return shared_->out.empty(); });
}

void RpcSet::Prepare(const RpcMetadata& metadata, grpc::ClientContext& context) {
  // A member that has lost its leader refuses, instead of keeping the request or ending no watch.
  context.AddMetadata("hasleader", "true");
  if (!metadata.token.empty()) context.AddMetadata("token", metadata.token);
  if (metadata.deadline != absl::InfiniteDuration()) {
    context.set_deadline(std::chrono::system_clock::now() +
                         absl::ToChronoMilliseconds(metadata.deadline));
  }
}

void RpcSet::Shared::Enter(std::shared_ptr<Rpc> rpc) {
  const std::lock_guard<std::mutex> lock(mutex);
  out.insert(std::move(rpc));
}

void RpcSet::Shared::Post(const std::shared_ptr<Shared>& self, std::function<void()> closure) {
  loop->Post([self, closure = std::move(closure)] {
    if (!self->closed) closure();
  });
}

void RpcSet::Shared::Leave(const std::shared_ptr<Rpc>& rpc) {
  const std::lock_guard<std::mutex> lock(mutex);
  out.erase(rpc);
  if (out.empty()) all_left.notify_all();
}

}  // namespace latentd
