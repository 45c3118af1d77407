// `EtcdRequest` brings one request to an end: tries members, one after the other, until one answers
// or the time is over.
//
//   member fails, nothing was done            -> the next member
//   member falls silent, may be done twice    -> the next member, before the time is over
//   member falls silent, must not             -> DEADLINE_EXCEEDED: it may have happened
//   token not known (once)                    -> a new token, the same member
//   any other error                           -> that error
//
// The loop's thread only.
#ifndef LATENTD_DAEMON_ETCD_ETCD_REQUEST_H_
#define LATENTD_DAEMON_ETCD_ETCD_REQUEST_H_

#include <grpcpp/support/status.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd_members.h"
#include "daemon/etcd/etcd_tokens.h"
#include "daemon/etcd/event_loop.h"
#include "daemon/etcd/rpc.h"

namespace latentd {

// What the requests of a client share. Outlives them.
struct EtcdConnection {
  EventLoop* loop = nullptr;
  EtcdMembers* members = nullptr;
  EtcdTokens* tokens = nullptr;
  RpcSet* rpcs = nullptr;
  std::string user;
};

class EtcdRequest : public std::enable_shared_from_this<EtcdRequest> {
 public:
  using End = std::function<void(const grpc::Status&)>;
  // Sends it to a member; `end` once, later.
  using Sender =
      std::function<std::shared_ptr<Rpc>(const EtcdMember&, const RpcMetadata&, End end)>;

  struct What {
    std::string name;         // for people: "list of '/a/'"
    bool repeatable = false;  // doing it twice is as good as once
    absl::Duration timeout;
    Sender send;
    std::function<void(absl::Status)> done;
  };

  EtcdRequest(const EtcdConnection& connection, What what);

  // Once. `done` runs later, not before Start returns.
  void Start();

 private:
  void Try();
  void CheckConnection();
  void Send();
  void HearOf(const grpc::Status& status, bool sent);
  void TimeIsOver();
  void TryNext(const std::string& problem);
  void GiveUp();
  void Finish(absl::Status status);
  absl::Status Error(absl::StatusCode code, const std::string& problem) const;
  // `closure` is not called once this has been destroyed or something else has come in between.
  template <typename... Arguments>
  auto IfStill(void (EtcdRequest::*closure)(Arguments...));

  const EtcdConnection connection_;
  What what_;
  absl::Time deadline_;
  uint64_t step_ = 0;  // grows with each thing that is waited for
  uint32_t tries_ = 0;
  size_t member_ = 0;
  std::string token_;
  std::shared_ptr<Rpc> rpc_;  // of this try
  bool sent_ = false;         // rpc_ is the request itself
  TimerId timer_{};
  bool renewed_token_ = false;
  bool maybe_done_ = false;
  std::vector<std::string> problems_;  // the last of each member
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_ETCD_REQUEST_H_
