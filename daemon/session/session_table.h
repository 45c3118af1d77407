// `SessionTable` is the rules of sessions without their machinery: how many there may be, how long
// each lives without being renewed, which ones are over. Time comes in as an argument; any
// monotonic clock will do.
//
// A session is either live (in the table) or over (not in it); a token that is over never comes
// back:
//     Add -> live -- Renew --> live, a whole ttl from now
//            live -- Remove or Expire at or after its expiry -> over
//
// Not synchronised; see registry.h.
#ifndef LATENTD_DAEMON_SESSION_SESSION_TABLE_H_
#define LATENTD_DAEMON_SESSION_SESSION_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/session/session.h"

namespace latentd {

struct SessionRules {
  uint32_t max_sessions = 1024;
  absl::Duration ttl = absl::Seconds(30);
};

class SessionTable {
 public:
  explicit SessionTable(SessionRules rules) : rules_(rules) {}

  const SessionRules& rules() const { return rules_; }
  size_t size() const { return sessions_.size(); }

  // RESOURCE_EXHAUSTED naming the limit, which is one of frontends: nodes have sessions beyond it.
  // REQUIRES: the token is not in the table.
  absl::Status Add(SessionGrant grant, absl::Time now);
  // NOT_FOUND if the session is over, be it only by now.
  absl::Status Renew(const SessionToken& token, absl::Time now);
  std::optional<SessionGrant> Remove(const SessionToken& token);
  // Takes out every session whose expiry is at or before `now`.
  std::vector<SessionGrant> Expire(absl::Time now);
  // Takes out all.
  std::vector<SessionGrant> Clear();

  // When Expire next has something to do; InfiniteFuture if there is no session.
  absl::Time NextExpiry() const;

 private:
  struct Entry {
    SessionGrant grant;
    absl::Time expires;
  };

  SessionRules rules_;
  absl::flat_hash_map<SessionToken, Entry> sessions_;
  size_t of_nodes_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SESSION_SESSION_TABLE_H_
