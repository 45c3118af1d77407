// The nodes that are registered at etcd, and which of them can be given slots.
//
// Pure; any thread.
#ifndef LATENTD_DAEMON_MEMBERSHIP_NODE_ROSTER_H_
#define LATENTD_DAEMON_MEMBERSHIP_NODE_ROSTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/membership/cluster_keys.h"
#include "daemon/membership/etcd_mirror.h"
#include "proto/latentd/v1/membership.pb.h"
#include "routing/routing_table.h"

namespace latentd {

struct RosterNode {
  NodeInfo node;
  v1::Layout layout;
  std::string version;
  Epoch known_epoch{};  // see v1.NodeRegistration
  uint64_t known_chain = 0;
  int64_t since_revision = 0;
};

struct Roster {
  std::vector<RosterNode> nodes;      // by id
  std::vector<std::string> troubles;  // entries that cannot be read
};

// `entries`: all of nodes/.
Roster ReadRoster(const EtcdEntries& entries, const ClusterKeys& keys);

struct AdmittedNodes {
  std::vector<NodeInfo> nodes;        // those of `before` that are left in its order, then the new
  std::vector<std::string> troubles;  // which node was refused, and why
};

// `before`: may be null. `layout`: of the cluster.
AdmittedNodes AdmitNodes(const Roster& roster, const RoutingTable* before,
                         const v1::Layout& layout);

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_NODE_ROSTER_H_
