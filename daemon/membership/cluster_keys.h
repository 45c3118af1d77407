// Where a cluster's entries are in etcd. A value; any thread.
#ifndef LATENTD_DAEMON_MEMBERSHIP_CLUSTER_KEYS_H_
#define LATENTD_DAEMON_MEMBERSHIP_CLUSTER_KEYS_H_

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "routing/ids.h"

namespace latentd {

class ClusterKeys {
 public:
  explicit ClusterKeys(const std::string& cluster)
      : root_(absl::StrCat("/latentd/", cluster, "/")) {}

  std::string Nodes() const { return root_ + "nodes/"; }
  std::string Node(const NodeId& id) const { return Nodes() + id; }
  std::string Coordinator() const { return root_ + "coordinator"; }
  std::string Claims() const { return root_ + "claims/"; }
  std::string Claims(const NodeId& id) const { return Claims() + id; }
  std::string Costs() const { return root_ + "costs/"; }
  std::string Costs(const NodeId& id) const { return Costs() + id; }

  std::string Table() const { return root_ + "table/"; }
  std::string Head() const { return Table() + "head"; }
  std::string Deltas() const { return Table() + "delta/"; }
  std::string Delta(Epoch epoch) const {
    return absl::StrFormat("%s%020d", Deltas(), ToInt(epoch));
  }
  std::string Snapshots() const { return Table() + "snapshot/"; }
  std::string Snapshot(Epoch epoch) const {
    return absl::StrFormat("%s%020d/", Snapshots(), ToInt(epoch));
  }
  std::string SnapshotPart(Epoch epoch, uint32_t part) const {
    return absl::StrFormat("%s%05d", Snapshot(epoch), part);
  }

 private:
  const std::string root_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_CLUSTER_KEYS_H_
