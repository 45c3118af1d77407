// What lanes count, as metrics: one sample a lane, labelled by its number and device.
//
// Any thread: it reads counters that lanes write without locks.
#ifndef LATENTD_DAEMON_METRICS_LANE_METRICS_H_
#define LATENTD_DAEMON_METRICS_LANE_METRICS_H_

#include <vector>

#include "absl/time/time.h"
#include "daemon/metrics/families.h"

namespace latentd {

class Lane;

// `now` is of the lanes' clock (Lane::last_turn).
void AppendLaneMetrics(const std::vector<const Lane*>& lanes, absl::Time now, MetricFamilies& to);

}  // namespace latentd

#endif  // LATENTD_DAEMON_METRICS_LANE_METRICS_H_
