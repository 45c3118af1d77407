// `EtcdCluster` is a cluster as it stands in a machine room: three etcd members and some daemons,
// each on a host of its own, joined by a network whose faults a test makes.
//
// The constructor returns when every daemon has a routing table that gives it slots. The destructor
// ends everything. Not synchronised: one thread builds and breaks the cluster.
#ifndef LATENTD_TESTS_CLUSTER_ETCD_CLUSTER_H_
#define LATENTD_TESTS_CLUSTER_ETCD_CLUSTER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/options.h"
#include "proto/latentd/v1/cluster.pb.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/network.h"

namespace latentd::testing {

struct EtcdClusterOptions {
  int nodes = 3;
  uint32_t replicas = 2;
  std::string cache = "64MiB";
  absl::Duration lease = absl::Seconds(2);
  std::string more;                  // further lines of each daemon's configuration
  std::vector<std::string> command;  // what goes before each daemon's
};

class EtcdCluster {
 public:
  static constexpr int kEtcdMembers = 3;

  explicit EtcdCluster(EtcdClusterOptions options = {});
  ~EtcdCluster();
  EtcdCluster(const EtcdCluster&) = delete;
  EtcdCluster& operator=(const EtcdCluster&) = delete;

  TestNetwork& network() { return network_; }
  int size() const { return options_.nodes; }
  // The host of a daemon is its index; of etcd's members, those after the daemons.
  Node& node(int index) { return *nodes_.at(static_cast<size_t>(index)); }
  int etcd_host(int member) const { return options_.nodes + member; }
  const EtcdClusterOptions& options() const { return options_; }

  // Of every daemon, for a client that outlives any of them.
  ClientOptions ClientOf() const;

  void StartEtcd(int member);
  void KillEtcd(int member);
  // The member that leads; -1 if none does.
  int EtcdLeader() const;

  // The table as the first daemon that answers has it; empty if none does.
  std::optional<v1::RoutingTable> Table();
  // Until the daemons `alive` (all by default) hold every slot `replicas` times, or as often as
  // they can, nobody joins anything, and all of them have one table. Whether that came in time.
  bool WaitUntilSettled(absl::Duration limit, std::vector<int> alive = {});

 private:
  std::string EtcdUrl(int member, int port) const;
  std::string ConfigOf(int index) const;

  const EtcdClusterOptions options_;
  const std::string folder_;
  TestNetwork network_;
  std::vector<std::unique_ptr<Process>> etcd_;
  std::vector<std::unique_ptr<Node>> nodes_;
};

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_ETCD_CLUSTER_H_
