// What a measurement is asked to do, and whether a daemon and this machine can take it: a load beyond
// a session's limits would wait in the client and be measured as latency, and one beyond memory would
// get the tool killed. Pure; any thread.
#ifndef LATENTD_TOOLS_LOAD_OPTIONS_H_
#define LATENTD_TOOLS_LOAD_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/session_limits.h"
#include "routing/layout.h"

namespace latentd {

struct LoadOptions {
  std::string device;  // whose memory queries and answers are in: "cuda:N"; empty: the host's
  uint32_t heads = 128;
  uint32_t query_tokens = 1;
  uint32_t concurrency = 1;  // requests in flight
  uint64_t requests = 1000;
  absl::Duration duration = absl::Seconds(5);  // of all, the warm-up included: ends it earlier
  uint64_t warmup = 50;                        // requests before the first that counts
  absl::Duration timeout = absl::Seconds(10);
  std::function<void(const std::string&)> progress = [](const std::string&) {};
  std::function<bool()> interrupted = [] { return false; };  // stop, and report what there is

  uint64_t rows() const { return uint64_t{query_tokens} * heads; }  // of one request
};

struct AttendLoadOptions : LoadOptions {
  uint32_t tokens = 2048;        // that a query attends
  uint32_t holders = 1;          // nodes that they are spread over
  uint32_t chunk_tokens = 2048;  // at most, in one chunk

  // Tokens of each chunk but the last, so that every holder gets one.
  uint32_t tokens_per_chunk() const;
  uint32_t chunks() const;
};

// What a measurement keeps in memory for its queries, answers and records, at most.
inline constexpr uint64_t kMaxLoadBytes = uint64_t{1} << 30;

// INVALID_ARGUMENT naming the flag, what it comes to, and the limit.
absl::Status CheckLoad(const LoadOptions& options, const SessionLimits& limits,
                       const Layout& layout);
absl::Status CheckAttendLoad(const AttendLoadOptions& options, const SessionLimits& limits,
                             const Layout& layout);

}  // namespace latentd

#endif  // LATENTD_TOOLS_LOAD_OPTIONS_H_
