// `Admission` keeps what is in flight within bounds, for each session and for the lane: beyond a
// bound a request is refused at once, so nothing queues without limit. A request is in flight from
// Admit until its reply has left the lane.
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

// What is in flight, of one session or of the lane.
struct Usage {
  uint32_t requests = 0;
  uint64_t bytes = 0;

  friend bool operator==(const Usage&, const Usage&) = default;
};

class Admission {
 public:
  explicit Admission(const AdmissionLimits& limits) : limits_(limits) {}

  // Adds a request to `session` and to the lane, or to neither: RESOURCE_EXHAUSTED naming the
  // bound, with a retry hint unless the request alone is beyond it.
  absl::Status Admit(Usage& session, uint64_t bytes);
  // REQUIRES: admitted with the same bytes.
  void Release(Usage& session, uint64_t bytes);

  const Usage& lane() const { return lane_; }

 private:
  const AdmissionLimits limits_;
  Usage lane_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ENGINE_ADMISSION_H_
