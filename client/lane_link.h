// `LaneLink` is the connection to one lane of one node: its endpoint, whether the lane knows our
// session there yet, who waits for a turn, and whether the peer is alive.
//
//     idle     -- first request: connect, send HELLO --> greeting
//     greeting -- HELLO answered ----------------------> bound
//     greeting, bound -- connection lost, peer silent --> failed
//     failed   -- the session was found alive again ---> idle
//
// Data thread only. State and rules; DataPath moves the messages.
#ifndef LATENTD_CLIENT_LANE_LINK_H_
#define LATENTD_CLIENT_LANE_LINK_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "client/clock.h"
#include "client/exchange.h"
#include "client/flow_window.h"
#include "client/session_info.h"
#include "transport/liveness.h"
#include "transport/worker.h"

namespace latentd {

class LaneLink {
 public:
  enum class State : uint8_t { kIdle, kGreeting, kBound, kFailed };

  LaneLink(const SessionInfo& session, uint32_t lane, const LivenessOptions& liveness_options)
      : node(session.node),
        lane(lane),
        worker_address(session.lanes[lane].worker_address),
        token(session.token),
        generation(session.generation),
        window(session.limits.inflight_requests, session.limits.inflight_bytes),
        liveness(liveness_options, SteadyTime(SteadyNanos())) {}

  const NodeId node;
  const uint32_t lane;
  const std::string worker_address;
  const TokenBits token;
  const Generation generation;

  State state = State::kIdle;
  // It stands in for a link that failed and has not heard from its peer yet.
  bool recovering = false;
  absl::Status failure;  // of a failed link
  std::unique_ptr<Endpoint> endpoint;
  std::deque<uint64_t> waiting;  // exchange ids, in order
  FlowWindow window;

  Liveness liveness;
  uint64_t sender = 0;  // of the peer's messages; 0 until HELLO is answered
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_LANE_LINK_H_
