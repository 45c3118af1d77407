// `EtcdWatcher` is a watch on a real etcd: it goes on where it was on another connection when one
// breaks, falls silent or leads to a member without a leader.
//
// The loop's thread only.
#ifndef LATENTD_DAEMON_ETCD_ETCD_WATCHER_H_
#define LATENTD_DAEMON_ETCD_ETCD_WATCHER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/etcd/etcd.h"
#include "daemon/etcd/etcd_errors.h"
#include "daemon/etcd/etcd_request.h"
#include "daemon/etcd/rpc.h"
#include "proto/etcd/rpc.pb.h"

namespace latentd {

class EtcdWatcher;

// Those that a client must close when it goes.
struct EtcdWatchers {
  std::set<EtcdWatcher*> open;
};

class EtcdWatcher : public EtcdWatch {
 public:
  using OnEvents = std::function<void(int64_t revision, std::vector<EtcdEvent> events)>;
  using OnEnd = std::function<void(absl::Status)>;

  EtcdWatcher(const EtcdConnection& connection, absl::Duration silence,
              std::shared_ptr<EtcdWatchers> watchers, std::string prefix, int64_t revision,
              OnEvents on_events, OnEnd on_end);
  ~EtcdWatcher() override;

  // Nothing is told any more, and nothing of the client is used.
  void Close();

 private:
  using Stream = RpcSet::Stream<etcdserverpb::WatchRequest, etcdserverpb::WatchResponse>;

  void Connect();
  void Open(const std::string& token);
  void Hear(etcdserverpb::WatchResponse& response);
  void HearCancel(const etcdserverpb::WatchResponse& response);
  void HearError(const EtcdError& error, const std::string& problem);
  void Tell();
  void AskForSign();
  // Breaks off and goes on with a member that is not the present one.
  void MoveOn();
  void End(absl::StatusCode code, const std::string& problem);
  void SetTimer(absl::Duration delay, void (EtcdWatcher::*closure)());

  const EtcdConnection connection_;
  const absl::Duration silence_;
  const std::shared_ptr<EtcdWatchers> watchers_;
  const std::string prefix_;
  int64_t next_revision_;  // the first that has not been told
  OnEvents on_events_;
  OnEnd on_end_;

  // What closures hold weakly: a new one makes those of before mean nothing.
  std::shared_ptr<char> present_ = std::make_shared<char>();
  size_t member_ = 0;
  std::string token_;
  std::shared_ptr<Stream> stream_;
  TimerId timer_{};
  std::vector<EtcdEvent> untold_;  // of an answer that comes in fragments
  uint32_t failures_ = 0;          // since the last watch that etcd accepted
  bool renewed_token_ = false;     // likewise
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_ETCD_WATCHER_H_
