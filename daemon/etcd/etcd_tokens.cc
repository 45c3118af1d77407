#include "daemon/etcd/etcd_tokens.h"

#include <utility>

#include "absl/time/time.h"
#include "daemon/etcd/etcd_errors.h"

namespace latentd {
namespace {

// etcd hashes the password, on purpose slowly.
constexpr absl::Duration kPatience = absl::Seconds(5);

}  // namespace

EtcdTokens::EtcdTokens(const EtcdOptions& options, const EtcdMembers* members, RpcSet* rpcs)
    : user_(options.user), password_path_(options.password_path), members_(members), rpcs_(rpcs) {}

EtcdTokens::~EtcdTokens() = default;

void EtcdTokens::Get(size_t member, Done done) {
  if (!needed()) return done(grpc::Status::OK, "");
  if (token_) return done(grpc::Status::OK, *token_);
  waiting_.push_back(std::move(done));
  if (asking_ != nullptr && asked_member_ == member) return;
  if (asking_ != nullptr) asking_->Cancel();
  absl::StatusOr<std::string> password = ReadEtcdPassword(password_path_);
  if (password.ok()) {
    Authenticate(member, *password);
  } else {
    asking_ = nullptr;
    ++question_;
    Answer({grpc::StatusCode::FAILED_PRECONDITION, std::string(password.status().message())});
  }
}

void EtcdTokens::Authenticate(size_t member, const std::string& password) {
  asked_member_ = member;
  etcdserverpb::AuthenticateRequest request;
  request.set_name(user_);
  request.set_password(password);
  asking_ = rpcs_->Unary<etcdserverpb::AuthenticateResponse>(
      {.deadline = kPatience}, std::move(request),
      [stub = (*members_)[member].auth.get()](auto&&... call) {
        stub->async()->Authenticate(std::forward<decltype(call)>(call)...);
      },
      [this, question = ++question_](const grpc::Status& status,
                                     etcdserverpb::AuthenticateResponse& response) {
        if (question != question_) return;
        asking_ = nullptr;
        if (status.ok()) {
          token_ = response.token();
        } else if (JudgeEtcdError(status, false).verdict == EtcdVerdict::kNoTokensNeeded) {
          token_ = "";
        }
        Answer(token_ ? grpc::Status::OK : status);
      });
}

void EtcdTokens::Answer(const grpc::Status& status) {
  const std::string token = token_.value_or("");
  for (const Done& done : std::exchange(waiting_, {})) done(status, token);
}

}  // namespace latentd
