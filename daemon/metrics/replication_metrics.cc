#include "daemon/metrics/replication_metrics.h"

#include <cstdint>

namespace latentd {

using prometheus::MetricType;

namespace {

void AppendCounter(MetricFamilies& to, const char* name, const char* help, uint64_t value) {
  AddSingle(to, name, help, MetricType::Counter, static_cast<double>(value));
}

void AppendGauge(MetricFamilies& to, const char* name, const char* help, double value) {
  AddSingle(to, name, help, MetricType::Gauge, value);
}

void AppendStanding(const Standing& standing, MetricFamilies& to) {
  auto& slots = AddFamily(to, "latentd_slots",
                          "Slots of this node in the newest table by its role.", MetricType::Gauge);
  AddSample(slots, {{"role", "primary"}}, standing.primary);
  AddSample(slots, {{"role", "replica"}}, standing.held - standing.primary);
  AddSample(slots, {{"role", "joining"}}, standing.joining);
  AppendGauge(to, "latentd_cluster_degraded_slots",
              "Slots of the whole cluster with fewer holders than `replicas`.",
              standing.cluster.degraded);
  AppendGauge(to, "latentd_cluster_moving_slots",
              "Slots of the whole cluster that some node joins.", standing.cluster.moving);
}

void AppendCopies(const SlotSyncProgress& sync, MetricFamilies& to) {
  AppendGauge(to, "latentd_migration_slots_to_go",
              "Slots that this node joins and has not copied yet.",
              static_cast<double>(sync.joining - sync.claimed));
  AppendGauge(to, "latentd_migration_chunks_under_way", "Chunks that are being copied, or queued.",
              static_cast<double>(sync.copies));
  AppendCounter(to, "latentd_migration_chunks_total", "Chunks copied from other nodes.",
                sync.counts.chunks);
  AppendCounter(to, "latentd_migration_bytes_total", "Bytes of records copied from other nodes.",
                sync.counts.bytes);
  AppendCounter(to, "latentd_migration_failures_total",
                "Lists, ranges and seals that failed and were tried again, or elsewhere.",
                sync.counts.failures + sync.failed_lists);
  AppendCounter(to, "latentd_migration_checksum_mismatches_total",
                "Copies that did not have their chunk's checksum, and were dropped.",
                sync.counts.mismatches);
  AppendCounter(to, "latentd_repaired_chunks_total",
                "Damaged chunks that were fetched anew from another node.", sync.repaired);
}

void AppendForwards(const ForwardStats& forward, MetricFamilies& to) {
  AppendGauge(to, "latentd_forward_lag_seconds",
              "Age of the oldest write on its way to other nodes.",
              absl::ToDoubleSeconds(forward.oldest));
  AppendCounter(to, "latentd_forwards_total", "Writes that every other node of their slot has.",
                forward.done);
  AppendCounter(to, "latentd_forward_retries_total", "Attempts after the first.", forward.retries);
  AppendCounter(to, "latentd_forward_resupplies_total",
                "Chunks that a node lacked records of, or had otherwise, and got whole.",
                forward.resupplied);
}

}  // namespace

void AppendReplicationMetrics(const ReplicationSnapshot& replication, MetricFamilies& to) {
  AppendStanding(replication.standing, to);
  AppendCopies(replication.status.sync, to);
  AppendForwards(replication.status.forward, to);
}

}  // namespace latentd
