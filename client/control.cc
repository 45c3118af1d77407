#include "client/control.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/channel.h"
#include "client/endpoint.h"
#include "client/grpc_loop.h"
#include "client/session_keeper.h"
#include "client/table_follower.h"
#include "proto/latentd/v1/session.grpc.pb.h"

namespace latentd {
namespace {

class GrpcControlPlane final : public ControlPlane {
 public:
  GrpcControlPlane(ControlOptions options, std::shared_ptr<grpc::ChannelCredentials> credentials,
                   Handover* handover)
      : handover_(handover),
        layout_(options.expected_layout),
        keeper_(options, credentials, &loop_,
                [this](ControlEvent event) { OnSession(std::move(event)); }),
        follower_(options.endpoints, credentials, &loop_,
                  [this](ControlEvent event) { OnTable(std::move(event)); }) {}

  ~GrpcControlPlane() override {
    loop_.Post([this] { keeper_.CloseAll(); });
    loop_.Stop(
        absl::Milliseconds(500), [this] { return keeper_.idle(); }, [this] { follower_.Cancel(); });
  }

  void Run(SessionInfo session, std::string endpoint, std::shared_ptr<grpc::Channel> channel) {
    first_session_ = session;
    loop_.Post([this, session = std::move(session), endpoint = std::move(endpoint),
                channel = std::move(channel)]() mutable {
      const auto table = session.table;
      follower_.Follow(table);
      keeper_.Adopt(std::move(session), endpoint, std::move(channel));
      keeper_.Follow(*table);
    });
    loop_.Start();
  }

  const SessionInfo& first_session() const override { return first_session_; }

  void EnsureSession(NodeId node, std::string control_address, SessionDoubt doubt,
                     TokenBits doubted) override {
    loop_.Post([this, node = std::move(node), address = std::move(control_address), doubt,
                doubted] { keeper_.Ensure(node, address, doubt, doubted); });
  }

  void RefreshTable(NodeId node, Epoch epoch) override {
    loop_.Post([this, node = std::move(node), epoch] { follower_.Refresh(node, epoch); });
  }

  void AskHolder(NodeId node) override {
    loop_.Post([this, node = std::move(node)] { follower_.AskHolder(node); });
  }

  void SuspectHolder(NodeId node) override {
    loop_.Post([this, node = std::move(node)] { follower_.Suspect(node); });
  }

 private:
  // The table first: who waits for the session places by it.
  void OnSession(ControlEvent event) {
    if (auto* opened = std::get_if<SessionOpened>(&event); opened != nullptr) {
      SessionInfo& session = opened->session;
      const auto table = std::exchange(session.table, nullptr);
      if (table != nullptr && HashLayout(session.layout) == layout_)
        follower_.Offer(table, TableSource::kNewSession);
    }
    handover_->Push(std::move(event));
  }

  void OnTable(ControlEvent event) {
    std::shared_ptr<const RoutingTable> table;
    if (const auto* changed = std::get_if<TableChanged>(&event)) table = changed->table;
    handover_->Push(std::move(event));
    if (table != nullptr) keeper_.Follow(*table);
  }

  Handover* const handover_;
  const LayoutHash layout_;
  SessionInfo first_session_;  // written before the thread starts
  GrpcLoop loop_;
  SessionKeeper keeper_;
  TableFollower follower_;
};

// One attempt at the first session.
absl::StatusOr<SessionInfo> OpenFirst(const ControlOptions& options, const std::string& endpoint,
                                      const std::shared_ptr<grpc::Channel>& channel,
                                      absl::Duration timeout) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  v1::OpenResponse response;
  const auto stub = v1::Session::NewStub(channel);
  const grpc::Status status = stub->Open(&context, MakeOpenRequest(options), &response);
  if (!status.ok()) return FromGrpcStatus(status, endpoint);
  return SessionFromProto(response);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControlPlane>> ControlPlane::Start(ControlOptions options,
                                                                  absl::Duration timeout,
                                                                  Handover* handover) {
  if (options.endpoints.empty())
    return absl::InvalidArgumentError("endpoints: got none, expected at least 1");
  for (const std::string& endpoint : options.endpoints) {
    if (absl::Status s = CheckEndpoint(endpoint); !s.ok()) return s;
  }
  auto credentials = MakeCredentials(options.tls);
  if (!credentials.ok()) return credentials.status();

  const absl::Time give_up = absl::Now() + timeout;
  std::vector<std::string> reasons;
  absl::Status last;
  for (size_t i = 0; i < options.endpoints.size(); ++i) {
    const std::string& endpoint = options.endpoints[i];
    // What is left is shared among the endpoints that are left.
    const absl::Duration left =
        (give_up - absl::Now()) / static_cast<int64_t>(options.endpoints.size() - i);
    const auto channel = MakeChannel(endpoint, *credentials);
    absl::StatusOr<SessionInfo> session =
        OpenFirst(options, endpoint, channel, std::max(left, absl::Milliseconds(1)));
    if (session.ok()) {
      options.expected_layout = HashLayout(session->layout);
      options.layout = session->layout;
      auto control = std::make_unique<GrpcControlPlane>(options, *credentials, handover);
      handover->Push(TableChanged{session->table});
      handover->Push(SessionOpened{*session});
      control->Run(*std::move(session), endpoint, channel);
      return control;
    }
    last = session.status();
    reasons.emplace_back(last.message());
  }
  return absl::Status(last.code(), absl::StrJoin(reasons, "; "));
}

}  // namespace latentd
