// The gRPC service `Admin`, for operators: what the node is and does, its chunks, drain and resume.
//
// Any thread; Chunks blocks while the lanes list. What it is given must outlive the gRPC server.
#ifndef LATENTD_DAEMON_SERVICES_ADMIN_SERVICE_H_
#define LATENTD_DAEMON_SERVICES_ADMIN_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <mutex>
#include <string>
#include <vector>

#include "daemon/membership/membership.h"
#include "daemon/services/lifecycle.h"
#include "daemon/services/node_facts.h"
#include "daemon/services/table_fingerprint.h"
#include "daemon/session/registry.h"
#include "proto/latentd/v1/admin.grpc.pb.h"

namespace latentd {

class Lane;

class AdminService : public v1::Admin::Service {
 public:
  AdminService(const NodeFacts* facts, std::vector<Lane*> lanes, SessionRegistry* sessions,
               const Membership* membership, Lifecycle* lifecycle);

  // Metrics may start after the server does. Empty: off.
  void SetMetricsAddress(std::string address);

  grpc::Status Status(grpc::ServerContext* context, const v1::StatusRequest* request,
                      v1::StatusResponse* response) override;
  grpc::Status Chunks(grpc::ServerContext* context, const v1::ChunksRequest* request,
                      v1::ChunksResponse* response) override;
  grpc::Status Drain(grpc::ServerContext* context, const v1::DrainRequest* request,
                     v1::DrainResponse* response) override;
  grpc::Status Resume(grpc::ServerContext* context, const v1::ResumeRequest* request,
                      v1::ResumeResponse* response) override;

 private:
  const NodeFacts* const facts_;
  const std::vector<Lane*> lanes_;
  SessionRegistry* const sessions_;
  const Membership* const membership_;
  Lifecycle* const lifecycle_;

  TableFingerprints fingerprints_;
  mutable std::mutex mutex_;
  std::string metrics_address_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_ADMIN_SERVICE_H_
