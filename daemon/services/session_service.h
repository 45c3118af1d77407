// The gRPC service `Session`: a frontend exchanges UCX addresses for a token, renews it, closes it.
//
// Any thread; Open takes a thread of its own while the lanes learn of the session, so that nothing
// keeps Renew waiting. What it is given must outlive the gRPC server.
#ifndef LATENTD_DAEMON_SERVICES_SESSION_SERVICE_H_
#define LATENTD_DAEMON_SERVICES_SESSION_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "daemon/services/call_threads.h"
#include "daemon/services/node_facts.h"
#include "daemon/services/table_streams.h"
#include "daemon/session/registry.h"
#include "proto/latentd/v1/session.grpc.pb.h"

namespace latentd {

class Lane;

class SessionService : public v1::Session::CallbackService {
 public:
  SessionService(const NodeFacts* facts, std::vector<Lane*> lanes, SessionRegistry* sessions,
                 const TableStreams* tables);

  grpc::ServerUnaryReactor* Open(grpc::CallbackServerContext* context,
                                 const v1::OpenRequest* request,
                                 v1::OpenResponse* response) override;
  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext* context,
                                  const v1::RenewRequest* request,
                                  v1::RenewResponse* response) override;
  grpc::ServerUnaryReactor* Close(grpc::CallbackServerContext* context,
                                  const v1::CloseRequest* request,
                                  v1::CloseResponse* response) override;

 private:
  grpc::Status OpenOrRefuse(const std::string& peer, const v1::OpenRequest& request,
                            v1::OpenResponse& response);
  absl::Status CheckOpen(const v1::OpenRequest& request) const;
  absl::Status LayoutMismatch(const v1::OpenRequest& request) const;

  const NodeFacts* const facts_;
  const std::vector<Lane*> lanes_;
  SessionRegistry* const sessions_;
  const TableStreams* const tables_;
  CallThreads opening_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_SESSION_SERVICE_H_
