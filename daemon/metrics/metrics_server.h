// `MetricsServer` answers HTTP GET /metrics in Prometheus' text format. Plain HTTP and open to
// whoever reaches it: listen on loopback or a management network.
//
// Any thread.
#ifndef LATENTD_DAEMON_METRICS_METRICS_SERVER_H_
#define LATENTD_DAEMON_METRICS_METRICS_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace prometheus {
class Collectable;
class Exposer;
}  // namespace prometheus

namespace latentd {

class MetricsServer {
 public:
  // `listen` is "host:port"; port 0: any free one. UNAVAILABLE: the address cannot be listened on;
  // the message names the key of the configuration.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& listen, std::shared_ptr<prometheus::Collectable> collectable);
  // Waits for answers under way.
  ~MetricsServer();

  // "host:port" with the port that it really is.
  const std::string& address() const { return address_; }

 private:
  MetricsServer() = default;

  std::shared_ptr<prometheus::Collectable> collectable_;  // the exposer only looks at it
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string address_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_METRICS_METRICS_SERVER_H_
