// One daemon's control plane as a test asks it: every call is bounded in time. Any thread.
#ifndef LATENTD_TESTS_CLUSTER_CONTROL_H_
#define LATENTD_TESTS_CLUSTER_CONTROL_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/tls_files.h"
#include "proto/latentd/v1/admin.grpc.pb.h"
#include "proto/latentd/v1/cluster.grpc.pb.h"
#include "proto/latentd/v1/session.grpc.pb.h"

namespace latentd::testing {

class Control {
 public:
  // `endpoint`: "127.0.0.1:PORT". Connects when first used, and again after a daemon's restart.
  explicit Control(const std::string& endpoint, const TlsFiles& tls = {});

  absl::StatusOr<v1::StatusResponse> Status(absl::Duration limit = absl::Seconds(5));
  absl::StatusOr<v1::ChunksResponse> Chunks(absl::Duration limit = absl::Seconds(5));
  absl::Status Drain();
  absl::Status Resume();
  absl::StatusOr<v1::OpenResponse> Open(const v1::OpenRequest& request);
  absl::Status Renew(uint64_t token_hi, uint64_t token_lo);
  absl::Status Close(uint64_t token_hi, uint64_t token_lo);
  absl::StatusOr<v1::RoutingTable> Table(absl::Duration limit = absl::Seconds(5));
  // Whether grpc.health.v1 calls the whole server SERVING.
  bool Healthy(absl::Duration limit);

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Admin::Stub> admin_;
  std::unique_ptr<v1::Session::Stub> session_;
  std::unique_ptr<v1::Cluster::Stub> cluster_;
};

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_CONTROL_H_
