// What is to be said of the node as a whole: build, state, table, sessions.
//
// Pure; any thread.
#ifndef LATENTD_DAEMON_METRICS_NODE_METRICS_H_
#define LATENTD_DAEMON_METRICS_NODE_METRICS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/calibration/calibration_status.h"
#include "daemon/membership/authority_status.h"
#include "daemon/metrics/families.h"
#include "daemon/replication/replication_status.h"
#include "daemon/session/registry.h"

namespace latentd {

struct PeerSample {
  std::string id;
  std::string state;     // one of NodeSnapshot::peer_states
  bool differs = false;  // in layout or table
};

// The node at one moment.
struct NodeSnapshot {
  std::string node_id;
  std::string version;
  std::string model;
  std::string record;
  std::string layout_hash;
  std::string state;                // one of `states`
  std::vector<std::string> states;  // all there are
  uint64_t epoch = 0;               // 0: no table yet
  uint64_t table_watches = 0;
  std::vector<std::string> peer_states;  // all there are
  std::vector<PeerSample> peers;
  std::optional<AuthorityStatus> authority;
  CalibrationStatus calibration;
  SessionCounts sessions;
  ReplicationSnapshot replication;
};

void AppendNodeMetrics(const NodeSnapshot& node, MetricFamilies& to);

}  // namespace latentd

#endif  // LATENTD_DAEMON_METRICS_NODE_METRICS_H_
