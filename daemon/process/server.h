// `Server` is a whole daemon inside a process: lanes, membership, sessions, gRPC services, metrics,
// wired together. A process has one; a test may have many, on ports of the system's choosing.
//
// Start returns a daemon that serves; Stop drains it. Any thread; Stop once.
#ifndef LATENTD_DAEMON_PROCESS_SERVER_H_
#define LATENTD_DAEMON_PROCESS_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/config.h"
#include "daemon/calibration/calibrator.h"
#include "daemon/lane/lane.h"
#include "daemon/membership/membership.h"
#include "daemon/metrics/metrics_server.h"
#include "daemon/metrics/node_metrics.h"
#include "daemon/process/parts.h"
#include "daemon/services/admin_service.h"
#include "daemon/services/cluster_service.h"
#include "daemon/services/control_server.h"
#include "daemon/services/lifecycle.h"
#include "daemon/services/node_facts.h"
#include "daemon/services/peer_watch.h"
#include "daemon/services/session_service.h"
#include "daemon/services/table_streams.h"
#include "daemon/session/registry.h"

namespace latentd {

// A generation that no earlier life of any node had.
Generation DrawGeneration();

class Server {
 public:
  // Takes lanes that are made and not started, of the configuration's layout and the given
  // generation. Errors name the key of the configuration that cannot be.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Config& config, Generation generation,
                                                       std::vector<std::unique_ptr<Lane>> lanes);
  // With a membership of the caller's choosing, and with what copies chunks, if anything does.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Config& config, Generation generation,
                                                       ServerParts parts);
  // Stops at once what Stop has not.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Admits nothing more, waits until `deadline` for what is in flight, then ends sessions, streams
  // and threads. DEADLINE_EXCEEDED: something in flight was cut off; all has ended nevertheless.
  absl::Status Stop(absl::Time deadline);

  // Where it really listens: "host:port".
  const std::string& control_address() const { return control_->address(); }
  // Empty: metrics are off.
  std::string metrics_address() const { return metrics_ == nullptr ? "" : metrics_->address(); }
  std::vector<absl::Time> LaneTurns() const;
  uint64_t RequestsInFlight() const { return lifecycle_->RequestsInFlight(); }

 private:
  Server(const Config& config, Generation generation, ServerParts parts);

  absl::Status StartControl(const Config& config);
  absl::Status StartMembership(const Config& config);
  absl::Status StartMetrics(const Config& config);
  absl::Status StopLanes(absl::Time deadline);
  NodeSnapshot Snapshot() const;
  ReplicationSnapshot SnapshotReplication() const;
  std::vector<LinkPeer> PeersToMeasure() const;

  // In the order of construction: each uses only what stands above it.
  const NodeFacts facts_;
  const uint32_t replicas_;
  const ServerParts parts_;
  Membership* const membership_;
  Replication* const replication_;  // may be null
  const std::vector<Lane*> lane_pointers_;
  TableStreams streams_;
  std::unique_ptr<SessionRegistry> sessions_;
  std::unique_ptr<Lifecycle> lifecycle_;
  std::unique_ptr<SessionService> session_service_;
  std::unique_ptr<PeerWatch> peers_;
  std::unique_ptr<Calibrator> calibration_;
  std::unique_ptr<ClusterService> cluster_service_;
  std::unique_ptr<AdminService> admin_service_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<MetricsServer> metrics_;
  bool stopped_ = false;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_SERVER_H_
