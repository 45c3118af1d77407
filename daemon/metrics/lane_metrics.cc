#include "daemon/metrics/lane_metrics.h"

#include <algorithm>
#include <limits>

#include "daemon/lane/lane.h"
#include "transport/errors.h"
#include "transport/wire_parse.h"

namespace latentd {
namespace {

using prometheus::MetricType;

// A number of LaneStats and what it is called outside.
struct PlainMetric {
  const char* name;
  const char* help;
  MetricType type;
  SingleWriterCounter LaneStats::*value;
};

constexpr PlainMetric kPlainMetrics[] = {
    {"latentd_malformed_messages_total",
     "Messages that could not be parsed: wrong magic, version, size or counts.",
     MetricType::Counter, &LaneStats::malformed_messages},
    {"latentd_unauthenticated_messages_total",
     "Messages of connections without a session, refused and closed.", MetricType::Counter,
     &LaneStats::unauthenticated},
    {"latentd_deadline_dropped_requests_total",
     "Requests dropped unanswered because their deadline had passed.", MetricType::Counter,
     &LaneStats::deadline_dropped},
    {"latentd_requests_in_flight", "Requests that were admitted and are not answered yet.",
     MetricType::Gauge, &LaneStats::requests_in_flight},
    {"latentd_in_flight_bytes", "Payload bytes of requests in flight and of their replies.",
     MetricType::Gauge, &LaneStats::bytes_in_flight},
    {"latentd_received_bytes_total", "Bytes of requests received, headers included.",
     MetricType::Counter, &LaneStats::bytes_received},
    {"latentd_sent_bytes_total", "Bytes of replies sent, headers included.", MetricType::Counter,
     &LaneStats::bytes_sent},
    {"latentd_attend_rows_total", "Rows (one token, one head each) attended.", MetricType::Counter,
     &LaneStats::attend_rows},
    {"latentd_attend_rows_queued", "Rows that wait for a batch.", MetricType::Gauge,
     &LaneStats::rows_queued},
    {"latentd_attend_batches_total", "Batches handed to the backend.", MetricType::Counter,
     &LaneStats::attend_batches},
    {"latentd_attend_batched_requests_total",
     "Requests in those batches: divided by the batches, how well requests share passes.",
     MetricType::Counter, &LaneStats::attend_batched_requests},
    {"latentd_published_bytes_total", "Bytes of records published.", MetricType::Counter,
     &LaneStats::published_bytes},
    {"latentd_store_pages", "Pages of the cache.", MetricType::Gauge, &LaneStats::pages_total},
    {"latentd_store_free_pages", "Pages that hold nothing.", MetricType::Gauge,
     &LaneStats::pages_free},
    {"latentd_store_pinned_chunks", "Chunks that leases keep from eviction.", MetricType::Gauge,
     &LaneStats::chunks_pinned},
    {"latentd_store_evicted_chunks_total", "Sealed chunks evicted to make room.",
     MetricType::Counter, &LaneStats::evicted_chunks},
    {"latentd_store_discarded_chunks_total",
     "Open chunks discarded because the session that published them ended.", MetricType::Counter,
     &LaneStats::discarded_chunks},
    {"latentd_store_released_chunks_total",
     "Chunks dropped because their slots went to other nodes, or their primary gave them up.",
     MetricType::Counter, &LaneStats::released_chunks},
    {"latentd_store_quarantined_chunks",
     "Chunks taken out because their bytes had changed, and not sealed anew yet.",
     MetricType::Gauge, &LaneStats::quarantined_chunks},
    {"latentd_store_corrupt_chunks_total", "Sealed chunks whose bytes were found to have changed.",
     MetricType::Counter, &LaneStats::corrupt_chunks},
    {"latentd_store_scrubbed_bytes_total", "Bytes of sealed chunks read again and compared.",
     MetricType::Counter, &LaneStats::scrubbed_bytes},
    {"latentd_corrupt_payloads_total",
     "Published records that did not have the checksum they were sent with; refused.",
     MetricType::Counter, &LaneStats::corrupt_payloads},
    {"latentd_replica_writes_in_flight",
     "Writes that this primary is passing on to the other nodes of their slots.", MetricType::Gauge,
     &LaneStats::forwards_in_flight},
    {"latentd_replica_writes_failed_total", "Those that a node did not take.", MetricType::Counter,
     &LaneStats::forwards_failed},
    {"latentd_replica_bytes_total", "Bytes of records passed on, counted once for all nodes.",
     MetricType::Counter, &LaneStats::forwarded_bytes},
    {"latentd_endpoints", "Connections of clients and other daemons.", MetricType::Gauge,
     &LaneStats::endpoints},
    {"latentd_peer_failures_total", "Connections that failed.", MetricType::Counter,
     &LaneStats::peer_failures},
    {"latentd_peer_timeouts_total",
     "Connections closed because their peers were silent while an answer waited for them.",
     MetricType::Counter, &LaneStats::peer_timeouts},
};

struct LatencyMetric {
  const char* name;
  const char* help;
  LatencyHistogram LaneStats::*value;
};

constexpr LatencyMetric kLatencyMetrics[] = {
    {"latentd_attend_latency_seconds", "ATTEND, from its arrival to handing its reply to UCX.",
     &LaneStats::attend_latency},
    {"latentd_attend_queue_seconds", "ATTEND, from its arrival to the start of its computation.",
     &LaneStats::queue_latency},
    {"latentd_attend_compute_seconds", "Computation of the batch that answered an ATTEND.",
     &LaneStats::compute_latency},
};

constexpr wire::Opcode kOpcodes[] = {
    wire::Opcode::kHello, wire::Opcode::kPublish, wire::Opcode::kSeal,    wire::Opcode::kAttend,
    wire::Opcode::kFetch, wire::Opcode::kPin,     wire::Opcode::kRelease, wire::Opcode::kStat,
    wire::Opcode::kPing,  wire::Opcode::kEcho,    wire::Opcode::kList,    wire::Opcode::kDrop};

MetricLabels LabelsOf(const Lane& lane) {
  return {{"lane", std::to_string(lane.options().index)}, {"device", lane.options().device}};
}

MetricLabels LabelsOf(const Lane& lane, std::string key, std::string_view value) {
  MetricLabels labels = LabelsOf(lane);
  labels.push_back({std::move(key), std::string(value)});
  return labels;
}

prometheus::ClientMetric ToMetric(const LatencyHistogram& histogram, MetricLabels labels) {
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  uint64_t cumulative = 0;
  for (int i = 0; i < LatencyHistogram::kBuckets; ++i) {
    cumulative += histogram.count(i);
    const bool last = i == LatencyHistogram::kBuckets - 1;
    const double bound = last ? std::numeric_limits<double>::infinity()
                              : static_cast<double>(uint64_t{1} << i) * 1e-6;
    metric.histogram.bucket.push_back({.cumulative_count = cumulative, .upper_bound = bound});
  }
  // Counted from the buckets: a count of its own could disagree with them while the lane counts on.
  metric.histogram.sample_count = cumulative;
  metric.histogram.sample_sum = static_cast<double>(histogram.sum_ns()) * 1e-9;
  return metric;
}

void AppendByOpcodeAndCode(const std::vector<const Lane*>& lanes, MetricFamilies& to) {
  auto& requests =
      AddFamily(to, "latentd_requests_total", "Requests received.", MetricType::Counter);
  for (const Lane* lane : lanes) {
    for (const wire::Opcode opcode : kOpcodes) {
      AddSample(requests, LabelsOf(*lane, "opcode", OpcodeName(opcode)),
                static_cast<double>(lane->stats().requests[static_cast<size_t>(opcode)].Get()));
    }
  }
  auto& replies = AddFamily(to, "latentd_replies_total", "Replies sent.", MetricType::Counter);
  for (const Lane* lane : lanes) {
    for (const wire::Code code : kWireCodes) {
      const auto index = static_cast<size_t>(WireCodeIndex(code));
      AddSample(replies, LabelsOf(*lane, "code", CodeName(code)),
                static_cast<double>(lane->stats().replies_by_code[index].Get()));
    }
  }
}

}  // namespace

void AppendLaneMetrics(const std::vector<const Lane*>& lanes, absl::Time now, MetricFamilies& to) {
  AppendByOpcodeAndCode(lanes, to);
  for (const PlainMetric& metric : kPlainMetrics) {
    auto& family = AddFamily(to, metric.name, metric.help, metric.type);
    for (const Lane* lane : lanes) {
      AddSample(family, LabelsOf(*lane), static_cast<double>((lane->stats().*metric.value).Get()));
    }
  }
  for (const LatencyMetric& metric : kLatencyMetrics) {
    auto& family = AddFamily(to, metric.name, metric.help, MetricType::Histogram);
    for (const Lane* lane : lanes) {
      family.metric.push_back(ToMetric(lane->stats().*metric.value, LabelsOf(*lane)));
    }
  }

  auto& chunks = AddFamily(to, "latentd_store_chunks", "Chunks held.", MetricType::Gauge);
  for (const Lane* lane : lanes) {
    AddSample(chunks, LabelsOf(*lane, "state", "open"),
              static_cast<double>(lane->stats().chunks_open.Get()));
    AddSample(chunks, LabelsOf(*lane, "state", "sealed"),
              static_cast<double>(lane->stats().chunks_sealed.Get()));
  }
  auto& capacity =
      AddFamily(to, "latentd_store_capacity_bytes", "Memory of the cache.", MetricType::Gauge);
  for (const Lane* lane : lanes) {
    AddSample(capacity, LabelsOf(*lane), static_cast<double>(lane->options().cache_bytes));
  }
  auto& measured = AddFamily(to, "latentd_calibration_seconds_total",
                             "Time in which the lane timed its own device.", MetricType::Counter);
  for (const Lane* lane : lanes) {
    AddSample(measured, LabelsOf(*lane), static_cast<double>(lane->stats().trial_ns.Get()) * 1e-9);
  }
  auto& batch_age =
      AddFamily(to, "latentd_attend_oldest_batch_age_seconds",
                "How long the oldest running batch has run; 0 when none runs.", MetricType::Gauge);
  for (const Lane* lane : lanes) {
    const auto start_ns = static_cast<int64_t>(lane->stats().oldest_batch_start_ns.Get());
    const absl::Time start = start_ns == 0 ? now : absl::FromUnixNanos(start_ns);
    AddSample(batch_age, LabelsOf(*lane), std::max(0.0, absl::ToDoubleSeconds(now - start)));
  }
  auto& age = AddFamily(to, "latentd_lane_last_turn_age_seconds",
                        "Time since the lane's loop last turned: an idle one turns once a second.",
                        MetricType::Gauge);
  for (const Lane* lane : lanes) {
    AddSample(age, LabelsOf(*lane), std::max(0.0, absl::ToDoubleSeconds(now - lane->last_turn())));
  }
}

}  // namespace latentd
