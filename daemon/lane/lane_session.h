// A session as a lane keeps it, from AddSession until it ends here. Requests in flight share it, so
// that a reply that comes too late finds out that there is nobody to send it to.
//
//     added     the token is known, nobody has said HELLO with it
//     bound     HELLO came: replies go to `endpoint`, requests are taken from `sender` alone.
//               HELLO from another sender binds anew; silence while answers are owed unbinds
//     ended     closed by the process, or its connection failed: nothing is sent any more
//
// Lane thread only.
#ifndef LATENTD_DAEMON_LANE_LANE_SESSION_H_
#define LATENTD_DAEMON_LANE_LANE_SESSION_H_

#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "daemon/engine/admission.h"
#include "daemon/session/session.h"
#include "transport/liveness.h"
#include "transport/worker.h"

namespace latentd {

struct LaneSession {
  LaneSession(const LivenessOptions& liveness_options, absl::Time now)
      : liveness(liveness_options, now) {}

  enum class State : uint8_t { kAdded, kBound, kEnded };

  SessionGrant grant;
  uint64_t key = 0;  // unique in the lane: names it to the batcher and in PINGs
  State state = State::kAdded;
  std::unique_ptr<Endpoint> endpoint;
  uint64_t sender = 0;
  bool was_bound = false;  // ever

  InFlight in_flight;
  absl::flat_hash_set<uint64_t> requests;  // in flight, by serial
  uint32_t unsent_notes = 0;  // replies without a request (errors, PINGs) that UCX still has

  // Of the connection: how long the peer has been silent while it is owed answers.
  Liveness liveness;
  bool farewell_unanswered = false;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_LANE_SESSION_H_
