// `EtcdClient` speaks to a real etcd, 3.4 or later, over gRPC. It uses one member at a time, and
// another one as soon as that is dead, silent or has lost its leader.
//
// Thread rule of `Etcd`, on an `EventLoop`. Destroyed on the loop or once it has stopped, and before
// it; that takes no answer from anybody.
//
// etcd's own bounds: 128 writes and 1.5 MiB a transaction, time to live in whole seconds.
#ifndef LATENTD_DAEMON_ETCD_ETCD_CLIENT_H_
#define LATENTD_DAEMON_ETCD_ETCD_CLIENT_H_

#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/etcd/etcd.h"
#include "daemon/etcd/etcd_members.h"
#include "daemon/etcd/etcd_options.h"
#include "daemon/etcd/etcd_request.h"
#include "daemon/etcd/etcd_tokens.h"
#include "daemon/etcd/etcd_watcher.h"
#include "daemon/etcd/event_loop.h"
#include "daemon/etcd/rpc.h"

namespace latentd {

class EtcdClient : public Etcd {
 public:
  // Any thread. Connects when first used. Errors: see CheckEtcdOptions.
  static absl::StatusOr<std::unique_ptr<EtcdClient>> Make(EventLoop* loop, EtcdOptions options);
  ~EtcdClient() override;

  void List(std::string prefix, absl::Duration timeout, Done<EtcdListing> done) override;
  void Commit(EtcdTransaction transaction, absl::Duration timeout, Done<EtcdOutcome> done) override;
  void GrantLease(absl::Duration ttl, absl::Duration timeout, Done<Granted> done) override;
  void KeepAlive(EtcdLease lease, absl::Duration timeout, Done<absl::Duration> done) override;
  void RevokeLease(EtcdLease lease, absl::Duration timeout, Done<bool> done) override;
  std::unique_ptr<EtcdWatch> Watch(
      std::string prefix, int64_t revision,
      std::function<void(int64_t revision, std::vector<EtcdEvent> events)> on_events,
      std::function<void(absl::Status)> on_end) override;

 private:
  EtcdClient(EventLoop* loop, EtcdOptions options);

  // `call(member, context, request, response, done)` makes the call; `read(response)` turns the
  // answer into a T.
  template <typename Response, typename Request, typename T, typename Call, typename Read>
  void Unary(std::string name, bool repeatable, absl::Duration timeout, Request request, Call call,
             Read read, Done<T> done);
  void Run(EtcdRequest::What what);

  const EtcdOptions options_;
  EtcdMembers members_;
  RpcSet rpcs_;
  EtcdTokens tokens_;
  const EtcdConnection connection_;
  std::set<std::shared_ptr<EtcdRequest>> requests_;
  const std::shared_ptr<EtcdWatchers> watchers_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_ETCD_CLIENT_H_
