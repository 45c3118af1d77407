// `Admission` keeps what is in flight within bounds, for each session and for the lane: beyond a
// bound a request is refused at once, so nothing queues without limit.
//
// A request works from Admit until its reply is made; then the reply is leaving until the transport
// has taken it all. The two are counted apart, because a client has a reply, and may send its next
// request, before the transport here says that the reply has left: a client that keeps to its
// bounds must not be refused for that. A peer that sends without reading piles up leaving replies,
// and is refused for those.
//
// Pure bookkeeping; lane thread only. What a request counts for: its own payload and its reply's.
#ifndef LATENTD_DAEMON_ENGINE_ADMISSION_H_
#define LATENTD_DAEMON_ENGINE_ADMISSION_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace latentd {

struct AdmissionLimits {
  uint32_t session_requests = 64;
  uint64_t session_bytes = uint64_t{256} << 20;
  uint32_t lane_requests = 4096;
  uint64_t lane_bytes = uint64_t{1} << 30;
  // When to try again. A session's own bound opens with its next reply; the lane's with others'.
  absl::Duration session_retry = absl::Milliseconds(1);
  absl::Duration lane_retry = absl::Milliseconds(5);
};

struct Usage {
  uint32_t requests = 0;
  uint64_t bytes = 0;

  friend bool operator==(const Usage&, const Usage&) = default;
};

// What is in flight, of one session or of the lane.
struct InFlight {
  Usage working;
  Usage leaving;

  uint32_t requests() const { return working.requests + leaving.requests; }
  uint64_t bytes() const { return working.bytes + leaving.bytes; }
  friend bool operator==(const InFlight&, const InFlight&) = default;
};

class Admission {
 public:
  // Leaving replies may come to this many times the bounds: those that a client has already, and
  // as many that are on their way to it.
  static constexpr uint32_t kLeavingFactor = 2;

  explicit Admission(const AdmissionLimits& limits) : limits_(limits) {}

  // Adds a request to `session` and to the lane, or to neither: RESOURCE_EXHAUSTED naming the
  // bound, with a retry hint unless the request alone is beyond it.
  absl::Status Admit(InFlight& session, uint64_t bytes);
  // The reply is made. REQUIRES for this and the next two: admitted with the same bytes.
  void StartLeaving(InFlight& session, uint64_t bytes);
  void ReleaseLeaving(InFlight& session, uint64_t bytes);
  // A request that gets no reply any more.
  void ReleaseWorking(InFlight& session, uint64_t bytes);

  const InFlight& lane() const { return lane_; }

 private:
  const AdmissionLimits limits_;
  InFlight lane_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ENGINE_ADMISSION_H_
