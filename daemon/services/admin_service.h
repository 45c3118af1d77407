// The gRPC service `Admin`, for operators: what the node is and does, its chunks, drain and resume.
//
// Any thread; what waits for lanes or the membership takes a thread of its own, so that nothing keeps
// Status waiting. What it is given must outlive the gRPC server.
#ifndef LATENTD_DAEMON_SERVICES_ADMIN_SERVICE_H_
#define LATENTD_DAEMON_SERVICES_ADMIN_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/calibration/calibrator.h"
#include "daemon/membership/membership.h"
#include "daemon/replication/replication_status.h"
#include "daemon/services/call_threads.h"
#include "daemon/services/lifecycle.h"
#include "daemon/services/node_facts.h"
#include "daemon/services/table_fingerprint.h"
#include "daemon/session/registry.h"
#include "proto/latentd/v1/admin.grpc.pb.h"

namespace latentd {

class Lane;

class AdminService : public v1::Admin::CallbackService {
 public:
  AdminService(const NodeFacts* facts, std::vector<Lane*> lanes, SessionRegistry* sessions,
               const Membership* membership, Lifecycle* lifecycle, Calibrator* calibration,
               std::function<ReplicationSnapshot()> replication = nullptr);

  // Metrics may start after the server does. Empty: off.
  void SetMetricsAddress(std::string address);

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context,
                                   const v1::StatusRequest* request,
                                   v1::StatusResponse* response) override;
  grpc::ServerUnaryReactor* Chunks(grpc::CallbackServerContext* context,
                                   const v1::ChunksRequest* request,
                                   v1::ChunksResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;
  grpc::ServerUnaryReactor* Resume(grpc::CallbackServerContext* context,
                                   const v1::ResumeRequest* request,
                                   v1::ResumeResponse* response) override;
  grpc::ServerUnaryReactor* Calibrate(grpc::CallbackServerContext* context,
                                      const v1::CalibrateRequest* request,
                                      v1::CalibrateResponse* response) override;
  grpc::ServerUnaryReactor* Costs(grpc::CallbackServerContext* context,
                                  const v1::CostsRequest* request,
                                  v1::CostsResponse* response) override;

 private:
  grpc::Status DescribeNode(v1::StatusResponse* response);
  // REQUIRES: replication_.
  ReplicationSnapshot OwnReplication() const;
  const NodeFacts* const facts_;
  const std::vector<Lane*> lanes_;
  SessionRegistry* const sessions_;
  const Membership* const membership_;
  Lifecycle* const lifecycle_;
  Calibrator* const calibration_;
  const std::function<ReplicationSnapshot()> replication_;  // may be empty

  TableFingerprints fingerprints_;
  mutable std::mutex mutex_;
  std::string metrics_address_;
  CallThreads blocking_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_ADMIN_SERVICE_H_
