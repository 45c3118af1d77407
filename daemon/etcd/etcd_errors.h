// What an answer of etcd that is an error means: for the request, and for the member that gave it.
//
// Pure; any thread.
#ifndef LATENTD_DAEMON_ETCD_ETCD_ERRORS_H_
#define LATENTD_DAEMON_ETCD_ETCD_ERRORS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace latentd {

enum class EtcdVerdict : uint8_t {
  kFinal,           // other members would say the same
  kNextMember,      // this one cannot; nothing was done
  kMaybeDone,       // this one cannot say; what was asked for may have happened
  kAuthenticate,    // the token is not, or no longer, known; nothing was done
  kNoTokensNeeded,  // of Authenticate: this etcd has authentication switched off
};

struct EtcdError {
  EtcdVerdict verdict = EtcdVerdict::kFinal;
  absl::StatusCode code = absl::StatusCode::kUnknown;
};

// Whether it is gRPC's word that there was no connection to send a request on. If not, the other side
// may have seen it.
bool WasNotSent(const grpc::Status& status);

// `sent`: whether the request may have reached the member. REQUIRES: status is not OK.
EtcdError JudgeEtcdError(const grpc::Status& status, bool sent);

// Of the reason with which etcd ends a watch: as the error that it was made from.
EtcdError JudgeCancelReason(const std::string& reason);

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_ETCD_ERRORS_H_
