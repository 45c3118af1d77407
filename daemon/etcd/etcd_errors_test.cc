#include "daemon/etcd/etcd_errors.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

EtcdError Judge(grpc::StatusCode code, const std::string& message, bool sent = true) {
  return JudgeEtcdError(grpc::Status(code, message), sent);
}

TEST_CASE("a wrong password and a forbidden key are final, and told apart") {
  const EtcdError password =
      Judge(grpc::StatusCode::INVALID_ARGUMENT,
            "etcdserver: authentication failed, invalid user ID or password");
  CHECK(password.verdict == EtcdVerdict::kFinal);
  CHECK(password.code == absl::StatusCode::kUnauthenticated);
  const EtcdError key = Judge(grpc::StatusCode::PERMISSION_DENIED, "etcdserver: permission denied");
  CHECK(key.verdict == EtcdVerdict::kFinal);
  CHECK(key.code == absl::StatusCode::kPermissionDenied);
}

TEST_CASE("a token that a member does not know is asked for anew") {
  for (const char* message :
       {"etcdserver: invalid auth token", "etcdserver: revision of auth store is old",
        "etcdserver: user name is empty"}) {
    CHECK(Judge(grpc::StatusCode::INVALID_ARGUMENT, message).verdict == EtcdVerdict::kAuthenticate);
  }
  CHECK(Judge(grpc::StatusCode::FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
            .verdict == EtcdVerdict::kNoTokensNeeded);
}

TEST_CASE("a member that refuses has done nothing, one that falls silent may have") {
  CHECK(Judge(grpc::StatusCode::UNAVAILABLE, "etcdserver: no leader").verdict ==
        EtcdVerdict::kNextMember);
  CHECK(Judge(grpc::StatusCode::RESOURCE_EXHAUSTED, "etcdserver: too many requests").verdict ==
        EtcdVerdict::kNextMember);
  for (const char* message :
       {"etcdserver: request timed out", "etcdserver: leader changed", "Socket closed"}) {
    CHECK(Judge(grpc::StatusCode::UNAVAILABLE, message).verdict == EtcdVerdict::kMaybeDone);
  }
  CHECK(Judge(grpc::StatusCode::DEADLINE_EXCEEDED, "Deadline Exceeded").verdict ==
        EtcdVerdict::kMaybeDone);
}

TEST_CASE("what was not sent was not done") {
  CHECK(Judge(grpc::StatusCode::UNAVAILABLE, "failed to connect to all addresses", false).verdict ==
        EtcdVerdict::kNextMember);
  CHECK(Judge(grpc::StatusCode::DEADLINE_EXCEEDED, "Deadline Exceeded", false).verdict ==
        EtcdVerdict::kNextMember);
}

TEST_CASE("only gRPC's own word means that a request was not sent") {
  using grpc::StatusCode;
  CHECK(
      WasNotSent({StatusCode::UNAVAILABLE,
                  "failed to connect to all addresses; last error: UNKNOWN: Connection refused"}));
  CHECK(WasNotSent({StatusCode::UNAVAILABLE, "DNS resolution failed for nowhere:1"}));
  CHECK_FALSE(WasNotSent({StatusCode::UNAVAILABLE, "Socket closed"}));
  CHECK_FALSE(WasNotSent({StatusCode::DEADLINE_EXCEEDED, "Deadline Exceeded"}));
}

TEST_CASE("whatever else etcd refuses is the caller's to know") {
  const EtcdError large =
      Judge(grpc::StatusCode::INVALID_ARGUMENT, "etcdserver: request is too large");
  CHECK(large.verdict == EtcdVerdict::kFinal);
  CHECK(large.code == absl::StatusCode::kInvalidArgument);
  const EtcdError full =
      Judge(grpc::StatusCode::RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded");
  CHECK(full.verdict == EtcdVerdict::kFinal);
  CHECK(full.code == absl::StatusCode::kResourceExhausted);
  CHECK(Judge(grpc::StatusCode::NOT_FOUND, "etcdserver: requested lease not found").code ==
        absl::StatusCode::kNotFound);
}

TEST_CASE("the reasons of ended watches are read alike") {
  CHECK(JudgeCancelReason("rpc error: code = PermissionDenied desc = etcdserver: permission denied")
            .code == absl::StatusCode::kPermissionDenied);
  CHECK(JudgeCancelReason("etcdserver: mvcc: required revision has been compacted").code ==
        absl::StatusCode::kOutOfRange);
  CHECK(JudgeCancelReason("").verdict == EtcdVerdict::kNextMember);
}

}  // namespace
}  // namespace latentd
