// The process as the system sees it, under the names that Prometheus' own clients use.
//
// Any thread; reads /proc/self.
#ifndef LATENTD_DAEMON_METRICS_PROCESS_METRICS_H_
#define LATENTD_DAEMON_METRICS_PROCESS_METRICS_H_

#include "daemon/metrics/families.h"

namespace latentd {

// What cannot be read is left out.
void AppendProcessMetrics(MetricFamilies& to);

}  // namespace latentd

#endif  // LATENTD_DAEMON_METRICS_PROCESS_METRICS_H_
