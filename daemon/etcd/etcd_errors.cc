#include "daemon/etcd/etcd_errors.h"

#include <string_view>

namespace latentd {
namespace {

struct KnownError {
  std::string_view text;  // etcd's words, which are part of its API
  EtcdVerdict verdict;
  absl::StatusCode code;
};

// Codes alone do not tell these apart: etcd has INVALID_ARGUMENT for a wrong password, and
// UNAVAILABLE both for a request that it refused and for one that it lost.
constexpr KnownError kKnownErrors[] = {
    {"invalid user ID or password", EtcdVerdict::kFinal, absl::StatusCode::kUnauthenticated},
    {"authentication is not enabled", EtcdVerdict::kNoTokensNeeded,
     absl::StatusCode::kFailedPrecondition},
    {"invalid auth token", EtcdVerdict::kAuthenticate, absl::StatusCode::kUnauthenticated},
    {"revision of auth store is old", EtcdVerdict::kAuthenticate,
     absl::StatusCode::kUnauthenticated},
    // No token although authentication is on.
    {"user name is empty", EtcdVerdict::kAuthenticate, absl::StatusCode::kUnauthenticated},
    {"user name not found", EtcdVerdict::kAuthenticate, absl::StatusCode::kUnauthenticated},
    {"permission denied", EtcdVerdict::kFinal, absl::StatusCode::kPermissionDenied},
    {"required revision has been compacted", EtcdVerdict::kFinal, absl::StatusCode::kOutOfRange},
    {"requested lease not found", EtcdVerdict::kFinal, absl::StatusCode::kNotFound},
    {"no leader", EtcdVerdict::kNextMember, absl::StatusCode::kUnavailable},
    {"not leader", EtcdVerdict::kNextMember, absl::StatusCode::kUnavailable},
    {"not capable", EtcdVerdict::kNextMember, absl::StatusCode::kUnavailable},
    {"too many requests", EtcdVerdict::kNextMember, absl::StatusCode::kUnavailable},
    {"rpc not supported for learner", EtcdVerdict::kNextMember, absl::StatusCode::kUnavailable},
};

const KnownError* FindKnown(const std::string& message) {
  for (const KnownError& known : kKnownErrors) {
    if (message.find(known.text) != std::string::npos) return &known;
  }
  return nullptr;
}

EtcdVerdict Unanswered(bool sent) {
  return sent ? EtcdVerdict::kMaybeDone : EtcdVerdict::kNextMember;
}

}  // namespace

bool WasNotSent(const grpc::Status& status) {
  // Said while a connection is looked for, and never of one that broke.
  return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
         (status.error_message().starts_with("failed to connect to all addresses") ||
          status.error_message().starts_with("DNS resolution failed"));
}

EtcdError JudgeEtcdError(const grpc::Status& status, bool sent) {
  if (const KnownError* known = FindKnown(status.error_message())) {
    return {known->verdict, known->code};
  }
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  switch (code) {
    case absl::StatusCode::kDeadlineExceeded:
      return {Unanswered(sent), code};
    case absl::StatusCode::kUnauthenticated:
      return {EtcdVerdict::kAuthenticate, code};
    // No member at all, one that stops, or something that is not etcd.
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kDataLoss:
      return {Unanswered(sent), absl::StatusCode::kUnavailable};
    default:
      return {EtcdVerdict::kFinal, code};
  }
}

EtcdError JudgeCancelReason(const std::string& reason) {
  if (const KnownError* known = FindKnown(reason)) return {known->verdict, known->code};
  return {EtcdVerdict::kNextMember, absl::StatusCode::kUnavailable};
}

}  // namespace latentd
