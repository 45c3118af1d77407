// `SessionRegistry` keeps the daemon's sessions: it draws tokens, makes them known to every lane
// before anybody learns them, and takes them from the lanes when a session ends, by Close, by
// running out, or at shutdown.
//
// Any thread. One thread of its own sweeps out sessions that ran out. Lanes are told under the
// registry's lock, so that no lane ever hears of a session's end before its beginning; what they
// call back must not call the registry.
#ifndef LATENTD_DAEMON_SESSION_REGISTRY_H_
#define LATENTD_DAEMON_SESSION_REGISTRY_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/session/session.h"
#include "daemon/session/session_table.h"

namespace latentd {

class Lane;

// Sessions since start, for metrics.
struct SessionCounts {
  uint64_t live = 0;
  uint64_t opened = 0;
  uint64_t refused = 0;
  uint64_t closed = 0;
  uint64_t expired = 0;
  uint64_t lost = 0;
};

class SessionRegistry {
 public:
  // The lanes must outlive the registry.
  SessionRegistry(SessionRules rules, std::vector<Lane*> lanes);
  // Ends every session.
  ~SessionRegistry();
  SessionRegistry(const SessionRegistry&) = delete;
  SessionRegistry& operator=(const SessionRegistry&) = delete;

  absl::Duration ttl() const { return rules_.ttl; }

  // `peer_node`: the node whose session it is. Returns once every lane knows the session. RESOURCE_EXHAUSTED: too many sessions. UNAVAILABLE:
  // shutting down, or a lane did not answer within `patience`.
  absl::StatusOr<SessionGrant> Open(std::string client_name, std::string worker_address,
                                    absl::Duration patience = absl::Seconds(5),
                                    std::string peer_node = {});
  // NOT_FOUND: the session is over.
  absl::Status Renew(const SessionToken& token);
  absl::Status Close(const SessionToken& token);
  // A lane gave the session up, because its connection failed: it ends on every lane.
  void LostByLane(const SessionToken& token, const absl::Status& why);

  // Open is refused from now on; sessions go on.
  void StopOpening();
  // Ends every session, after StopOpening. Again: nothing happens.
  void Shutdown();

  SessionCounts counts() const;

 private:
  void SweepUntilShutdown();
  // Both REQUIRE mutex_.
  void TellLanesOfEnd(const SessionGrant& grant, std::string_view reason);
  void WakeSweeper() { changed_.notify_all(); }

  const SessionRules rules_;
  const std::vector<Lane*> lanes_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // the next expiry came nearer, or shutdown
  SessionTable table_;
  SessionCounts counts_;
  bool opening_ = true;
  bool shutting_down_ = false;
  std::thread sweeper_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SESSION_REGISTRY_H_
