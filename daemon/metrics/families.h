// Small helpers to write metric families down. Pure; any thread.
#ifndef LATENTD_DAEMON_METRICS_FAMILIES_H_
#define LATENTD_DAEMON_METRICS_FAMILIES_H_

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <string>
#include <utility>
#include <vector>

namespace latentd {

using MetricFamilies = std::vector<prometheus::MetricFamily>;
using MetricLabels = std::vector<prometheus::ClientMetric::Label>;

inline prometheus::MetricFamily& AddFamily(MetricFamilies& to, std::string name, std::string help,
                                           prometheus::MetricType type) {
  to.push_back({.name = std::move(name), .help = std::move(help), .type = type, .metric = {}});
  return to.back();
}

// A counter's or a gauge's value, by the family's type.
inline void AddSample(prometheus::MetricFamily& family, MetricLabels labels, double value) {
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  (family.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) =
      value;
  family.metric.push_back(std::move(metric));
}

// A family of one sample without labels.
inline void AddSingle(MetricFamilies& to, std::string name, std::string help,
                      prometheus::MetricType type, double value) {
  AddSample(AddFamily(to, std::move(name), std::move(help), type), {}, value);
}

}  // namespace latentd

#endif  // LATENTD_DAEMON_METRICS_FAMILIES_H_
