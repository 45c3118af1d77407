// `EtcdTokens` gets the token that a user shows to etcd, once for all requests.
//
// The loop's thread only.
#ifndef LATENTD_DAEMON_ETCD_ETCD_TOKENS_H_
#define LATENTD_DAEMON_ETCD_ETCD_TOKENS_H_

#include <grpcpp/support/status.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/etcd/etcd_members.h"
#include "daemon/etcd/etcd_options.h"
#include "daemon/etcd/rpc.h"

namespace latentd {

class EtcdTokens {
 public:
  // The token, empty where none is needed, or why there is none.
  using Done = std::function<void(const grpc::Status&, const std::string& token)>;

  EtcdTokens(const EtcdOptions& options, const EtcdMembers* members, RpcSet* rpcs);
  ~EtcdTokens();

  bool needed() const { return !user_.empty(); }
  // At once if there is one; otherwise asks `member`, and no other any longer.
  void Get(size_t member, Done done);
  // etcd knows it no longer, or may not. No effect if there is a newer one.
  void Forget(const std::string& token) {
    if (token_ == token) token_.reset();
  }

 private:
  void Authenticate(size_t member, const std::string& password);
  void Answer(const grpc::Status& status);

  const std::string user_;
  const std::string password_path_;
  const EtcdMembers* const members_;
  RpcSet* const rpcs_;
  std::optional<std::string> token_;
  std::shared_ptr<Rpc> asking_;
  size_t asked_member_ = 0;
  uint64_t question_ = 0;  // grows: answers to older ones are not heard
  std::vector<Done> waiting_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_ETCD_TOKENS_H_
