// `PeerThread` is the thread that copies chunks: it turns a PeerClient, runs timers and whatever
// others post, and sleeps when there is nothing to do. What lives on it is a Scheduler's user.
//
// Thread rule: Post and Wake: any thread. now, After, Cancel and the client: its own thread, or any
// one thread while it does not run. Closures that are still posted when it stops run in Stop.
#ifndef LATENTD_DAEMON_REPLICATION_PEER_THREAD_H_
#define LATENTD_DAEMON_REPLICATION_PEER_THREAD_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/peer_client.h"
#include "client/waiter.h"
#include "daemon/etcd/scheduler.h"

namespace latentd {

class PeerThread final : public Scheduler {
 public:
  // Does not run yet. Errors are PeerClient's, or the system's for want of descriptors.
  static absl::StatusOr<std::unique_ptr<PeerThread>> Create(PeerClientOptions options);
  // Stops.
  ~PeerThread() override;
  PeerThread(const PeerThread&) = delete;
  PeerThread& operator=(const PeerThread&) = delete;

  void Start();
  // Ends the client's calls with CANCELLED, runs what is posted, and joins the thread. Timers are
  // dropped. `last` runs on the thread before that. Again: nothing happens.
  void Stop(const std::function<void()>& last = [] {});

  // Runs in the order of posting. False: the thread has stopped, and nothing happens.
  bool Post(std::function<void()> closure);

  PeerClient& client() { return *client_; }

  // Steady; does not count time that the machine was suspended.
  absl::Time now() const override;
  TimerId After(absl::Duration delay, std::function<void()> closure) override;
  void Cancel(TimerId timer) override;

 private:
  PeerThread() = default;

  void Run();
  bool Turn();
  bool RunPosted();
  bool RunTimers();
  // Returns once something may have happened.
  void Sleep();

  int wake_fd_ = -1;
  std::unique_ptr<PeerClient> client_;
  std::unique_ptr<Waiter> waiter_;
  std::thread thread_;
  std::atomic<bool> stopping_ = false;

  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // guarded by mutex_
  bool closed_ = false;                        // guarded by mutex_

  uint64_t next_timer_ = 1;
  std::map<std::pair<absl::Time, uint64_t>, std::function<void()>> timers_;
  std::map<uint64_t, absl::Time> due_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_PEER_THREAD_H_
