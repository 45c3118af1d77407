// What a client has found out about a node by asking it, for reports and logs: plain values.
#ifndef LATENTD_CLIENT_NODE_HEALTH_H_
#define LATENTD_CLIENT_NODE_HEALTH_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "client/circuit_breaker.h"
#include "routing/ids.h"

namespace latentd {

struct LaneHealth {
  uint32_t in_flight = 0;      // requests of this client
  absl::Duration expected;     // what a request takes there, by its latest reports
  absl::Duration latency_p50;  // of ATTEND as this client sees it; zero while it has seen
  absl::Duration latency_p95;  // too few
};

struct NodeHealth {
  NodeId node;
  BreakerState breaker = BreakerState::kClosed;
  uint32_t failures = 0;      // of its connection, in a row
  uint64_t times_opened = 0;  // the breaker, so far
  std::vector<LaneHealth> lanes;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_NODE_HEALTH_H_
