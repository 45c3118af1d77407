#include "tests/cluster/control.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <chrono>
#include <limits>
#include <stdexcept>

#include "client/channel.h"

namespace latentd::testing {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(5);

std::shared_ptr<grpc::ChannelCredentials> Credentials(const TlsFiles& tls) {
  auto credentials = MakeCredentials(tls);
  if (!credentials.ok()) throw std::runtime_error(credentials.status().ToString());
  return *std::move(credentials);
}

std::shared_ptr<grpc::Channel> MakeEagerChannel(const std::string& endpoint, const TlsFiles& tls) {
  grpc::ChannelArguments arguments;
  // A daemon that was started a moment ago is to be found at once, not after a back-off.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(std::numeric_limits<int>::max());
  return grpc::CreateCustomChannel(endpoint, Credentials(tls), arguments);
}

void Bound(grpc::ClientContext* context, absl::Duration limit) {
  // gRPC connects only while somebody waits in a call; calls that fail at once would leave it to a
  // timer of five seconds.
  context->set_wait_for_ready(true);
  context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(limit));
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

template <typename Response, typename Call>
absl::StatusOr<Response> Ask(absl::Duration limit, Call&& call) {
  grpc::ClientContext context;
  Bound(&context, limit);
  Response response;
  const grpc::Status status = call(&context, &response);
  if (!status.ok()) return FromGrpc(status);
  return response;
}

}  // namespace

Control::Control(const std::string& endpoint, const TlsFiles& tls)
    : channel_(MakeEagerChannel(endpoint, tls)),
      admin_(v1::Admin::NewStub(channel_)),
      session_(v1::Session::NewStub(channel_)),
      cluster_(v1::Cluster::NewStub(channel_)) {}

absl::StatusOr<v1::StatusResponse> Control::Status(absl::Duration limit) {
  return Ask<v1::StatusResponse>(
      limit, [&](auto* context, auto* response) { return admin_->Status(context, {}, response); });
}

absl::StatusOr<v1::ChunksResponse> Control::Chunks(absl::Duration limit) {
  v1::ChunksRequest request;
  request.set_limit(1000);
  return Ask<v1::ChunksResponse>(limit, [&](auto* context, auto* response) {
    return admin_->Chunks(context, request, response);
  });
}

absl::Status Control::Drain() {
  return Ask<v1::DrainResponse>(
             kLimit,
             [&](auto* context, auto* response) { return admin_->Drain(context, {}, response); })
      .status();
}

absl::Status Control::Resume() {
  return Ask<v1::ResumeResponse>(
             kLimit,
             [&](auto* context, auto* response) { return admin_->Resume(context, {}, response); })
      .status();
}

absl::StatusOr<v1::OpenResponse> Control::Open(const v1::OpenRequest& request) {
  return Ask<v1::OpenResponse>(kLimit, [&](auto* context, auto* response) {
    return session_->Open(context, request, response);
  });
}

absl::Status Control::Renew(uint64_t token_hi, uint64_t token_lo) {
  v1::RenewRequest request;
  request.set_token_hi(token_hi);
  request.set_token_lo(token_lo);
  return Ask<v1::RenewResponse>(kLimit,
                                [&](auto* context, auto* response) {
                                  return session_->Renew(context, request, response);
                                })
      .status();
}

absl::Status Control::Close(uint64_t token_hi, uint64_t token_lo) {
  v1::CloseRequest request;
  request.set_token_hi(token_hi);
  request.set_token_lo(token_lo);
  return Ask<v1::CloseResponse>(kLimit,
                                [&](auto* context, auto* response) {
                                  return session_->Close(context, request, response);
                                })
      .status();
}

absl::StatusOr<v1::RoutingTable> Control::Table(absl::Duration limit) {
  return Ask<v1::RoutingTable>(limit, [&](auto* context, auto* response) {
    return cluster_->GetTable(context, {}, response);
  });
}

bool Control::Healthy(absl::Duration limit) {
  // Debian ships no stubs of grpc.health.v1. An empty request asks for the whole server; the answer
  // is one field: status = 1 is SERVING.
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  Bound(&context, limit);
  grpc::CompletionQueue queue;
  const grpc::ByteBuffer request(nullptr, 0);
  grpc::ByteBuffer response;
  grpc::Status status;
  const auto call =
      stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  grpc::Slice bytes;
  return status.ok() && response.TrySingleSlice(&bytes).ok() && bytes.size() == 2 &&
         bytes.begin()[0] == 0x08 && bytes.begin()[1] == 0x01;
}

}  // namespace latentd::testing
