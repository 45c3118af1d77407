// `EtcdMembers` holds a connection to each member of an etcd cluster, and which one is in use.
//
// The loop's thread only.
#ifndef LATENTD_DAEMON_ETCD_ETCD_MEMBERS_H_
#define LATENTD_DAEMON_ETCD_ETCD_MEMBERS_H_

#include <grpcpp/channel.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/etcd/etcd_options.h"
#include "proto/etcd/rpc.grpc.pb.h"

namespace latentd {

struct EtcdMember {
  std::string endpoint;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<etcdserverpb::KV::Stub> kv;
  std::unique_ptr<etcdserverpb::Lease::Stub> lease;
  std::unique_ptr<etcdserverpb::Watch::Stub> watch;
  std::unique_ptr<etcdserverpb::Auth::Stub> auth;
};

class EtcdMembers {
 public:
  // Connects when first used. REQUIRES: there is an endpoint, and CheckEtcdOptions is satisfied.
  explicit EtcdMembers(const EtcdOptions& options);

  size_t size() const { return members_.size(); }
  const EtcdMember& operator[](size_t index) const { return members_[index]; }
  size_t current() const { return current_; }
  // Member `failed` did not do. No effect if another is in use already.
  void MoveOn(size_t failed) {
    if (current_ == failed) current_ = (failed + 1) % members_.size();
  }

 private:
  std::vector<EtcdMember> members_;
  size_t current_ = 0;
};

// INVALID_ARGUMENT: they cannot be meant. FAILED_PRECONDITION naming a file that cannot be read.
absl::Status CheckEtcdOptions(const EtcdOptions& options);

// The first line of the file. FAILED_PRECONDITION naming it.
absl::StatusOr<std::string> ReadEtcdPassword(const std::string& path);

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_ETCD_MEMBERS_H_
