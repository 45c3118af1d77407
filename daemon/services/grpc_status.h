// absl::Status to gRPC's. Their canonical codes have the same numbers; payloads stay inside the
// process.
#ifndef LATENTD_DAEMON_SERVICES_GRPC_STATUS_H_
#define LATENTD_DAEMON_SERVICES_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace latentd {

inline grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_GRPC_STATUS_H_
