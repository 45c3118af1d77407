// A session is one client process on one daemon: a token for the data plane, a tenant, limits.
// Values; any thread.
#ifndef LATENTD_DAEMON_SESSION_SESSION_H_
#define LATENTD_DAEMON_SESSION_SESSION_H_

#include <compare>
#include <cstdint>
#include <string>
#include <utility>

namespace latentd {

// 128 random bits; knowing it is being the session.
struct SessionToken {
  uint64_t hi = 0;
  uint64_t lo = 0;

  friend constexpr auto operator<=>(const SessionToken&, const SessionToken&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const SessionToken& token) {
    return H::combine(std::move(h), token.hi, token.lo);
  }
};

// What a lane is told of a session when it opens.
struct SessionGrant {
  SessionToken token;
  std::string client_name;  // for logs
  std::string tenant;
  std::string worker_address;  // the client's UCX worker
  std::string peer_node{};     // the node that copies chunks by it; empty: a frontend's
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SESSION_SESSION_H_
