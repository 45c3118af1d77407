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
#include "transport/worker.h"

namespace latentd {

struct LivenessRules {
  uint64_t ping_after_ns = 500'000'000;    // a silent peer that owes an answer is asked ...
  uint64_t dead_after_ns = 2'000'000'000;  // ... and given up
};

enum class LivenessStep : uint8_t { kNothing, kPing, kGiveUp };

class LaneLink {
 public:
  enum class State : uint8_t { kIdle, kGreeting, kBound, kFailed };

  LaneLink(const SessionInfo& session, uint32_t lane)
      : node(session.node),
        lane(lane),
        worker_address(session.lanes[lane].worker_address),
        token(session.token),
        generation(session.generation),
        window(session.limits.inflight_requests, session.limits.inflight_bytes) {}

  // A message came from the peer.
  void Heard(uint64_t sender_id, uint64_t now_ns) {
    if (sender_id != 0) sender = sender_id;
    heard_ns = now_ns;
  }
  // The peer owes one more answer, or one less.
  void Owed(uint64_t now_ns) {
    if (outstanding++ == 0) owed_since_ns = now_ns;
  }
  void Settled() { --outstanding; }

  // What to do about a peer that owes answers. Times are a steady clock's.
  LivenessStep CheckLiveness(const LivenessRules& rules, uint64_t now_ns) const;

  const NodeId node;
  const uint32_t lane;
  const std::string worker_address;
  const TokenBits token;
  const Generation generation;

  State state = State::kIdle;
  absl::Status failure;  // of a failed link
  std::unique_ptr<Endpoint> endpoint;
  std::deque<uint64_t> waiting;  // exchange ids, in order
  FlowWindow window;

  uint64_t sender = 0;  // of the peer's messages; 0 until the first
  uint64_t heard_ns = 0;
  uint64_t owed_since_ns = 0;
  uint64_t outstanding = 0;
  uint64_t pinged_ns = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_LANE_LINK_H_
