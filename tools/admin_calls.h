// `AdminCalls` asks one daemon's control plane what latentctl wants to know. Blocking; thread-safe.
#ifndef LATENTD_TOOLS_ADMIN_CALLS_H_
#define LATENTD_TOOLS_ADMIN_CALLS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/tls_files.h"
#include "proto/latentd/v1/admin.pb.h"
#include "proto/latentd/v1/cluster.pb.h"

namespace latentd {

class AdminCalls {
 public:
  // Connects when first used. Errors are about the endpoint and the TLS files.
  static absl::StatusOr<std::unique_ptr<AdminCalls>> Create(const std::string& endpoint,
                                                            const TlsFiles& tls,
                                                            absl::Duration timeout);
  virtual ~AdminCalls() = default;

  // Errors name the endpoint.
  virtual absl::StatusOr<v1::StatusResponse> Status() = 0;
  virtual absl::StatusOr<v1::ListNodesResponse> ListNodes() = 0;
  virtual absl::StatusOr<v1::RoutingTable> GetTable() = 0;
  virtual absl::StatusOr<v1::GetCostsResponse> GetCosts() = 0;
  virtual absl::StatusOr<v1::ChunksResponse> Chunks(uint32_t limit, const std::string& prefix) = 0;
  virtual absl::StatusOr<v1::DrainResponse> Drain() = 0;
  virtual absl::StatusOr<v1::ResumeResponse> Resume() = 0;
  virtual absl::StatusOr<v1::CostsResponse> Costs() = 0;
  // Takes as long as measuring does, but no longer than `limit`.
  virtual absl::StatusOr<v1::CalibrateResponse> Calibrate(bool compute, bool links,
                                                          absl::Duration limit) = 0;
};

}  // namespace latentd

#endif  // LATENTD_TOOLS_ADMIN_CALLS_H_
