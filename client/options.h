// How a client is to behave. Plain values.
#ifndef LATENTD_CLIENT_OPTIONS_H_
#define LATENTD_CLIENT_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/circuit_breaker.h"
#include "client/hedging.h"
#include "client/query.h"
#include "client/tls_files.h"
#include "routing/ids.h"

namespace latentd {

struct ClientOptions {
  std::vector<std::string>
      endpoints;  // "host:port" of one or more daemons; any will do to begin with
  std::string
      client_name;  // for the daemons' logs: "vllm-7f9c/worker-0"; empty: host and process id
  TlsFiles tls;
  std::vector<std::string> transports;  // of UCX; empty: whatever it finds
  LayoutHash expected_layout{};         // 0: whatever the daemons have
  // For chunks that FetchToCache brings, in whole pages of the layout; 0: none. Always host memory.
  uint64_t cache_bytes = 0;
  // Helpers that attend them besides the thread that turns the client, which works too.
  int cache_threads = 0;
  std::string device;  // "cuda:N": queries may lie in its memory; empty: in the host's only

  absl::Duration connect_timeout = absl::Seconds(5);
  absl::Duration call_timeout = absl::Seconds(10);  // of calls that name none

  absl::Duration ping_after =
      absl::Milliseconds(500);                   // a silent holder that owes an answer is asked ...
  absl::Duration dead_after = absl::Seconds(2);  // ... and given up

  // Reads of what several nodes hold.
  // What one holder may take before another is asked as well and the first answer counts; at most
  // half of the call's time. Zero: a quarter of it.
  absl::Duration attempt_timeout = absl::ZeroDuration();
  // A second request sooner than that, to cut the tail. Off by default. With it on, rows of such
  // queries are sent from a copy.
  HedgeOptions hedge;
  // When a node that fails is left alone, as long as another has what is asked for.
  CircuitBreakerOptions breaker;
  uint64_t seed =
      0;  // of what is drawn: which holder to compare with, backoffs; 0: another each time

  // Blocking calls poll for this long before they sleep: cheaper than being woken when answers come
  // in microseconds.
  absl::Duration spin = absl::Microseconds(50);
  uint32_t max_waiting_per_lane =
      4096;  // requests that wait here for their turn, by the daemon's limits
};

struct ClientCounters {
  // Daemons turned out to go by another table of the epoch in use: their files differ, or they were
  // restarted with other nodes and the same epoch.
  uint64_t table_conflicts = 0;
  uint64_t late_answers = 0;  // came after their call had ended
  uint64_t connections_lost = 0;
  uint64_t pings_sent = 0;
  uint64_t pings_answered = 0;
  uint64_t attempts_timed_out = 0;  // holders that took longer than an attempt may
  uint64_t hedges_sent = 0;
  uint64_t hedges_won = 0;  // answered before the first request
  uint64_t breakers_opened = 0;
  CacheCounters cache;  // zero without one
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_OPTIONS_H_
