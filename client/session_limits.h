// A daemon's bounds for one session; what is in flight is counted by each lane for itself. A value.
#ifndef LATENTD_CLIENT_SESSION_LIMITS_H_
#define LATENTD_CLIENT_SESSION_LIMITS_H_

#include <cstdint>

namespace latentd {

struct SessionLimits {
  uint32_t inflight_requests = 0;
  uint64_t inflight_bytes = 0;
  uint32_t chunks_per_request = 0;
  uint32_t rows_per_request = 0;
  uint64_t work_per_request = 0;  // of an ATTEND: its rows, each times the tokens that it sees
  uint64_t payload_bytes_per_request = 0;
  uint64_t publish_bytes_per_request = 0;
  uint64_t max_lease_ms = 0;  // of a PIN
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_SESSION_LIMITS_H_
