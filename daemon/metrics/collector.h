// `Collector` gathers all of the daemon's metrics when somebody asks for them; between two scrapes
// it costs nothing.
//
// Any thread. Lanes and what `node` reads must outlive it.
#ifndef LATENTD_DAEMON_METRICS_COLLECTOR_H_
#define LATENTD_DAEMON_METRICS_COLLECTOR_H_

#include <prometheus/collectable.h>

#include <functional>
#include <vector>

#include "daemon/metrics/node_metrics.h"

namespace latentd {

class Lane;

class Collector : public prometheus::Collectable {
 public:
  Collector(std::vector<const Lane*> lanes, std::function<NodeSnapshot()> node);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::vector<const Lane*> lanes_;
  const std::function<NodeSnapshot()> node_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_METRICS_COLLECTOR_H_
