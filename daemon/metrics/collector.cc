#include "daemon/metrics/collector.h"

#include <utility>

#include "daemon/lane/steady_time.h"
#include "daemon/metrics/lane_metrics.h"
#include "daemon/metrics/process_metrics.h"

namespace latentd {

Collector::Collector(std::vector<const Lane*> lanes, std::function<NodeSnapshot()> node)
    : lanes_(std::move(lanes)), node_(std::move(node)) {}

std::vector<prometheus::MetricFamily> Collector::Collect() const {
  MetricFamilies families;
  AppendNodeMetrics(node_(), families);
  AppendLaneMetrics(lanes_, SteadyNow(), families);
  AppendProcessMetrics(families);
  return families;
}

}  // namespace latentd
