// What is to be said of slots and of chunks that go from node to node. Pure; any thread.
#ifndef LATENTD_DAEMON_METRICS_REPLICATION_METRICS_H_
#define LATENTD_DAEMON_METRICS_REPLICATION_METRICS_H_

#include "daemon/metrics/families.h"
#include "daemon/replication/replication_status.h"

namespace latentd {

void AppendReplicationMetrics(const ReplicationSnapshot& replication, MetricFamilies& to);

}  // namespace latentd

#endif  // LATENTD_DAEMON_METRICS_REPLICATION_METRICS_H_
