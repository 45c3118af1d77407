// A lane's counters, written by the lane thread alone and read by anyone, without locks: metrics,
// status, load reports.
#ifndef LATENTD_DAEMON_LANE_LANE_STATS_H_
#define LATENTD_DAEMON_LANE_LANE_STATS_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "transport/wire.h"

namespace latentd {

// A number with one writer: no read-modify-write instruction is needed.
class SingleWriterCounter {
 public:
  void Add(uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void Set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  uint64_t Get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Durations in buckets of powers of two: bucket i counts durations below 2^i microseconds; the last
// is open.
class LatencyHistogram {
 public:
  static constexpr int kBuckets = 24;

  void Observe(uint64_t ns) {
    int bucket = 0;
    while (bucket < kBuckets - 1 && ns >= (uint64_t{1000} << bucket)) ++bucket;
    counts_[bucket].Add();
    sum_ns_.Add(ns);
  }
  uint64_t count(int bucket) const { return counts_[bucket].Get(); }
  uint64_t sum_ns() const { return sum_ns_.Get(); }

 private:
  std::array<SingleWriterCounter, kBuckets> counts_;
  SingleWriterCounter sum_ns_;
};

inline constexpr int kOpcodeCount = 13;     // indexed by wire::Opcode
inline constexpr int kErrorCodeCount = 24;  // see WireCodeIndex

// Where a code is counted: canonical codes 0..16 at their own value, latentd's own from 17 on.
constexpr int WireCodeIndex(wire::Code code) {
  const int value = static_cast<int>(code);
  const int index = value < 100 ? value : value - 100 + 17;
  return index < kErrorCodeCount ? index : kErrorCodeCount - 1;
}

struct LaneStats {
  // Requests.
  std::array<SingleWriterCounter, kOpcodeCount> requests;
  std::array<SingleWriterCounter, kErrorCodeCount> replies_by_code;
  SingleWriterCounter malformed_messages;
  SingleWriterCounter deadline_dropped;
  SingleWriterCounter requests_in_flight;  // gauge
  SingleWriterCounter bytes_in_flight;     // gauge
  SingleWriterCounter bytes_received;
  SingleWriterCounter bytes_sent;
  // Attention.
  SingleWriterCounter attend_rows;
  SingleWriterCounter attend_batches;
  SingleWriterCounter attend_batched_requests;
  SingleWriterCounter rows_queued;  // gauge
  // Unix nanoseconds of SteadyNow; 0 when no batch runs.
  SingleWriterCounter oldest_batch_start_ns;
  LatencyHistogram attend_latency;  // arrival to reply handed to UCX
  LatencyHistogram queue_latency;   // arrival to start of compute
  LatencyHistogram compute_latency;
  SingleWriterCounter trial_ns;  // counter: of the lane's time, in batches of its own
  // Store (gauges unless said).
  SingleWriterCounter pages_total;
  SingleWriterCounter pages_free;
  SingleWriterCounter chunks_open;
  SingleWriterCounter chunks_sealed;
  SingleWriterCounter chunks_pinned;
  SingleWriterCounter evicted_chunks;    // counter
  SingleWriterCounter discarded_chunks;  // counter: open chunks of ended sessions
  SingleWriterCounter published_bytes;   // counter
  SingleWriterCounter released_chunks;   // counter: of slots that went elsewhere
  SingleWriterCounter quarantined_chunks;
  SingleWriterCounter corrupt_chunks;  // counter
  SingleWriterCounter scrubbed_bytes;  // counter
  // Replicas.
  SingleWriterCounter forwards_in_flight;  // gauge
  SingleWriterCounter forwards_failed;     // counter
  SingleWriterCounter forwarded_bytes;     // counter: records given to the replica sink
  SingleWriterCounter corrupt_payloads;    // counter
  // Peers.
  SingleWriterCounter endpoints;        // gauge
  SingleWriterCounter peer_failures;    // counter: connection errors
  SingleWriterCounter peer_timeouts;    // counter: alive connection, silent peer
  SingleWriterCounter unauthenticated;  // counter
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_LANE_STATS_H_
