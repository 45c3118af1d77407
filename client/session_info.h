// What a daemon told the client when it opened a session: a value, checked. Any thread.
#ifndef LATENTD_CLIENT_SESSION_INFO_H_
#define LATENTD_CLIENT_SESSION_INFO_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/session_limits.h"
#include "proto/latentd/v1/session.pb.h"
#include "routing/ids.h"
#include "routing/layout.h"
#include "routing/routing_table.h"

namespace latentd {

struct TokenBits {
  uint64_t hi = 0;
  uint64_t lo = 0;

  friend bool operator==(const TokenBits&, const TokenBits&) = default;
};

struct LaneInfo {
  std::string worker_address;
  std::string device;
  uint64_t cache_bytes = 0;
};

struct SessionInfo {
  TokenBits token;
  absl::Duration ttl;
  NodeId node;
  Generation generation{};
  std::vector<LaneInfo> lanes;  // at least one, in lane order
  SessionLimits limits;         // all above 0
  Layout layout;
  std::shared_ptr<const RoutingTable> table;  // null once it was handed on
};

// INTERNAL naming the fault: the daemon's answer cannot be used.
absl::StatusOr<SessionInfo> SessionFromProto(const v1::OpenResponse& response);

}  // namespace latentd

#endif  // LATENTD_CLIENT_SESSION_INFO_H_
