// `SessionKeeper` runs the state machine of control.h for every node. Loop thread only.
#ifndef LATENTD_CLIENT_SESSION_KEEPER_H_
#define LATENTD_CLIENT_SESSION_KEEPER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "client/channel.h"
#include "client/control.h"
#include "client/grpc_loop.h"
#include "proto/latentd/v1/session.grpc.pb.h"
#include "routing/routing_table.h"

namespace latentd {

class SessionKeeper {
 public:
  using Report = std::function<void(ControlEvent)>;
  // `report` runs on the loop's thread. Only a session that is new comes with a table.
  SessionKeeper(const ControlOptions& options,
                std::shared_ptr<grpc::ChannelCredentials> credentials, GrpcLoop* loop,
                Report report);

  // Takes over a session that was opened elsewhere.
  void Adopt(SessionInfo session, const std::string& control_address,
             std::shared_ptr<grpc::Channel> channel);
  void Ensure(const NodeId& node, const std::string& control_address, SessionDoubt doubt,
              TokenBits doubted);
  // Loses the sessions with daemons that `table` tells from its nodes of the same id: their slots
  // are elsewhere.
  void Follow(const RoutingTable& table);
  // Starts closing every session.
  void CloseAll();
  // No call is out.
  bool idle() const { return calls_out_ == 0; }

 private:
  struct Node {
    std::string address;
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<v1::Session::Stub> stub;
    bool open = false;
    bool busy = false;     // a call is out
    bool awaited = false;  // somebody waits for SessionOpened or SessionFailed
    SessionInfo session;   // if open
    absl::Duration since_renewal = absl::ZeroDuration();
    uint64_t timer = 0;  // the one that counts; older ones find another number here
  };

  Node& NodeAt(const NodeId& id, const std::string& control_address);
  void Open(const NodeId& id);
  void Opened(const NodeId& id, const grpc::Status& status, const v1::OpenResponse& response);
  void Renew(const NodeId& id);
  void Renewed(const NodeId& id, const grpc::Status& status, const v1::RenewResponse& response);
  void RenewAfter(const NodeId& id, absl::Duration delay);
  void Lose(const NodeId& id);

  const ControlOptions options_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  GrpcLoop* const loop_;
  const Report report_;
  std::map<NodeId, Node> nodes_;
  int calls_out_ = 0;
  bool closing_ = false;
};

// The request that opens a session; also for the first one.
v1::OpenRequest MakeOpenRequest(const ControlOptions& options);

}  // namespace latentd

#endif  // LATENTD_CLIENT_SESSION_KEEPER_H_
