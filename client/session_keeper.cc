#include "client/session_keeper.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "routing/layout_proto.h"
#include "transport/wire.h"

namespace latentd {
namespace {

// Three attempts fit into a ttl.
absl::Duration RenewalPeriod(absl::Duration ttl) { return ttl / 3; }

}  // namespace

v1::OpenRequest MakeOpenRequest(const ControlOptions& options) {
  v1::OpenRequest request;
  request.set_client_name(options.client_name);
  request.set_peer_node(options.peer_node);
  request.set_worker_address(options.worker_address);
  request.set_layout_hash(ToInt(options.expected_layout));
  if (options.layout) *request.mutable_layout() = ToProto(*options.layout);
  request.set_protocol_version(wire::kVersion);
  return request;
}

SessionKeeper::SessionKeeper(const ControlOptions& options,
                             std::shared_ptr<grpc::ChannelCredentials> credentials, GrpcLoop* loop,
                             Report report)
    : options_(options),
      credentials_(std::move(credentials)),
      loop_(loop),
      report_(std::move(report)) {}

void SessionKeeper::Adopt(SessionInfo session, const std::string& control_address,
                          std::shared_ptr<grpc::Channel> channel) {
  Node& node = nodes_[session.node];
  node.address = control_address;
  node.channel = std::move(channel);
  node.stub = v1::Session::NewStub(node.channel);
  node.open = true;
  const absl::Duration period = RenewalPeriod(session.ttl);
  const NodeId id = session.node;
  node.session = std::move(session);
  node.session.table = nullptr;
  RenewAfter(id, period);
}

SessionKeeper::Node& SessionKeeper::NodeAt(const NodeId& id, const std::string& control_address) {
  Node& node = nodes_[id];
  if (node.channel == nullptr || node.address != control_address) {
    node.address = control_address;
    node.channel = MakeChannel(control_address, credentials_);
    node.stub = v1::Session::NewStub(node.channel);
  }
  return node;
}

void SessionKeeper::Ensure(const NodeId& id, const std::string& control_address, SessionDoubt doubt,
                           TokenBits doubted) {
  if (closing_) return;
  Node& node = NodeAt(id, control_address);
  node.awaited = true;
  if (node.busy) return;  // its answer is the answer
  if (!node.open) {
    Open(id);
  } else if (doubt == SessionDoubt::kNone || !(node.session.token == doubted)) {
    // The doubt is about an older session.
    node.awaited = false;
    report_(SessionOpened{node.session});
  } else if (doubt == SessionDoubt::kSuspect) {
    Renew(id);
  } else {
    node.open = false;
    Open(id);
  }
}

void SessionKeeper::Follow(const RoutingTable& table) {
  for (auto& [id, node] : nodes_) {
    const auto index = table.FindNode(id);
    if (!node.open || !index) continue;
    const Generation named = table.node(*index).generation;
    if (named != Generation{} && named != node.session.generation) Lose(id);
  }
}

void SessionKeeper::Open(const NodeId& id) {
  Node& node = nodes_.at(id);
  node.busy = true;
  ++calls_out_;
  loop_->Unary<v1::OpenResponse>(
      options_.call_timeout,
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
        return node.stub->AsyncOpen(context, MakeOpenRequest(options_), queue);
      },
      [this, id](grpc::Status status, v1::OpenResponse response) { Opened(id, status, response); });
}

void SessionKeeper::Opened(const NodeId& id, const grpc::Status& status,
                           const v1::OpenResponse& response) {
  --calls_out_;
  Node& node = nodes_.at(id);
  node.busy = false;
  const std::string context = absl::StrCat("node ", id, " (", node.address, ")");
  absl::Status failure = FromGrpcStatus(status, context);
  if (failure.ok()) {
    absl::StatusOr<SessionInfo> session = SessionFromProto(response);
    if (!session.ok()) {
      failure = session.status();
    } else if (session->node != id) {
      failure = absl::UnavailableError(absl::StrCat(context, " answers as node ", session->node));
    } else {
      node.open = true;
      node.session = *std::move(session);
    }
  }
  if (!node.open) {
    // A node that does not answer is one that another holder may stand in for; a refusal is final.
    const bool passing = absl::IsDeadlineExceeded(failure) || absl::IsCancelled(failure);
    if (passing) failure = absl::UnavailableError(failure.message());
    if (std::exchange(node.awaited, false)) report_(SessionFailed{id, failure});
    return;
  }
  node.awaited = false;
  node.since_renewal = absl::ZeroDuration();
  RenewAfter(id, RenewalPeriod(node.session.ttl));
  report_(SessionOpened{node.session});
  // Found alive later, the session has nothing to say about tables any more.
  node.session.table = nullptr;
}

void SessionKeeper::RenewAfter(const NodeId& id, absl::Duration delay) {
  const uint64_t timer = ++nodes_.at(id).timer;
  loop_->After(delay, [this, id, timer, delay] {
    Node& node = nodes_.at(id);
    if (node.timer != timer || !node.open || node.busy || closing_) return;
    node.since_renewal += delay;
    Renew(id);
  });
}

void SessionKeeper::Renew(const NodeId& id) {
  Node& node = nodes_.at(id);
  node.busy = true;
  ++node.timer;  // the answer sets the next one
  ++calls_out_;
  v1::RenewRequest request;
  request.set_token_hi(node.session.token.hi);
  request.set_token_lo(node.session.token.lo);
  const absl::Duration timeout = std::min(options_.call_timeout, RenewalPeriod(node.session.ttl));
  loop_->Unary<v1::RenewResponse>(
      timeout,
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
        return node.stub->AsyncRenew(context, request, queue);
      },
      [this, id](grpc::Status status, v1::RenewResponse response) {
        Renewed(id, status, response);
      });
}

void SessionKeeper::Renewed(const NodeId& id, const grpc::Status& status,
                            const v1::RenewResponse& response) {
  --calls_out_;
  Node& node = nodes_.at(id);
  node.busy = false;
  if (!node.open) {  // lost meanwhile
    if (node.awaited && !closing_) Open(id);
    return;
  }
  if (status.ok()) {
    node.since_renewal = absl::ZeroDuration();
    if (response.ttl_ms() > 0) node.session.ttl = absl::Milliseconds(response.ttl_ms());
    RenewAfter(id, RenewalPeriod(node.session.ttl));
    if (std::exchange(node.awaited, false)) report_(SessionOpened{node.session});
    return;
  }
  const bool unknown = status.error_code() == grpc::StatusCode::NOT_FOUND ||
                       status.error_code() == grpc::StatusCode::UNAUTHENTICATED;
  if (unknown || node.since_renewal >= node.session.ttl) {
    Lose(id);
    if (node.awaited && unknown && !closing_) Open(id);
    if (unknown) return;
  } else {
    RenewAfter(id, RenewalPeriod(node.session.ttl) / 4);
  }
  // The daemon does not answer; its session may live on.
  if (std::exchange(node.awaited, false)) {
    report_(SessionFailed{id, absl::UnavailableError(absl::StrCat("node ", id, " (", node.address,
                                                                  "): ", status.error_message()))});
  }
}

void SessionKeeper::Lose(const NodeId& id) {
  Node& node = nodes_.at(id);
  node.open = false;
  node.since_renewal = absl::ZeroDuration();
  report_(SessionLost{id, node.session.token});
}

void SessionKeeper::CloseAll() {
  closing_ = true;
  for (auto& [id, node] : nodes_) {
    if (!node.open) continue;
    ++calls_out_;
    v1::CloseRequest request;
    request.set_token_hi(node.session.token.hi);
    request.set_token_lo(node.session.token.lo);
    loop_->Unary<v1::CloseResponse>(
        absl::Milliseconds(300),
        [&stub = node.stub, &request](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return stub->AsyncClose(context, request, queue);
        },
        [this](const grpc::Status&, const v1::CloseResponse&) { --calls_out_; });
  }
}

}  // namespace latentd
