// `BenchCluster` is a cluster of real daemons on loopback for the time of a benchmark, with an etcd
// of its own or a static list of nodes. It needs neither root nor network namespaces, nor Bazel: the
// programs may lie anywhere.
//
// The constructor returns when the daemons have a routing table that gives all of them slots. The
// destructor ends everything. Not synchronised; children end with the thread that made it. Errors
// are std::runtime_error.
#ifndef LATENTD_TESTS_CLUSTER_BENCHMARKS_BENCH_CLUSTER_H_
#define LATENTD_TESTS_CLUSTER_BENCHMARKS_BENCH_CLUSTER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/options.h"
#include "daemon/etcd/testing/etcd_process.h"
#include "tests/cluster/control.h"
#include "tests/cluster/process.h"

namespace latentd::testing {

struct BenchPrograms {
  std::string latentd;
  std::string etcd;
};

// Each of them, unless given: what $LATENTD_DAEMON and $LATENTD_ETCD name; beside this program; among
// Bazel's runfiles; in /usr/bin. Throws, saying where it has looked.
BenchPrograms FindPrograms(const BenchPrograms& given, bool with_etcd);

struct BenchClusterOptions {
  BenchPrograms programs;
  int nodes = 3;
  uint32_t replicas = 2;
  bool etcd = true;  // or a static list
  int etcd_members = 1;
  absl::Duration lease = absl::Seconds(3);
  std::string cache = "512MiB";
  int threads = 1;  // that help a lane
  std::string transport = "tcp";
};

class BenchCluster {
 public:
  explicit BenchCluster(BenchClusterOptions options);
  ~BenchCluster();
  BenchCluster(const BenchCluster&) = delete;
  BenchCluster& operator=(const BenchCluster&) = delete;

  int size() const { return options_.nodes; }
  const BenchClusterOptions& options() const { return options_; }
  std::string NodeName(int node) const;

  // Of every daemon, for a client that outlives any of them.
  ClientOptions ClientOf() const;

  // By SIGKILL.
  void Kill(int node) { processes_.at(static_cast<size_t>(node))->Kill(); }
  // After Kill, at the same address. Does not wait.
  void Start(int node);

  absl::Status Drain(int node) { return ControlOf(node).Drain(); }
  absl::Status Resume(int node) { return ControlOf(node).Resume(); }
  // Slots that the node answers for, by its own word; none if it does not answer.
  std::optional<uint32_t> SlotsHeld(int node);
  uint64_t Epoch(int node);
  // Until every slot has all its holders among all nodes, nobody joins anything, and all nodes have
  // one table. Throws after `limit`.
  void WaitUntilSettled(absl::Duration limit = absl::Seconds(60));

 private:
  Control& ControlOf(int node) { return controls_.at(static_cast<size_t>(node)); }
  std::string ConfigOf(int node) const;
  // The end of the node's log.
  std::string Tail(int node) const;

  const BenchClusterOptions options_;
  const std::string folder_;
  std::optional<EtcdProcesses> etcd_;
  std::vector<std::string> endpoints_;
  std::vector<Control> controls_;
  std::vector<std::unique_ptr<Process>> processes_;
};

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_BENCHMARKS_BENCH_CLUSTER_H_
