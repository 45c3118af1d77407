// A cluster of real `latentd` processes on loopback, for the time of a test:
//     Cluster cluster({.nodes = 3});
//     cluster.node(1).Kill();
// The constructor returns when every daemon is ready. The destructor stops them by SIGTERM and
// fails the test if one does not exit with 0 or had ended by itself. Logs of a failed test are
// printed.
//
// Not synchronised: one thread builds and breaks the cluster. Failures of the harness itself throw
// std::runtime_error, which Catch2 reports.
#ifndef LATENTD_TESTS_CLUSTER_CLUSTER_H_
#define LATENTD_TESTS_CLUSTER_CLUSTER_H_

#include <signal.h>

#include <cstdint>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/tls_files.h"
#include "kernels/mla.h"
#include "tests/cluster/control.h"
#include "tests/cluster/process.h"

namespace latentd::testing {

// The fragments are the insides of YAML flow mappings: .limits = "inflight_per_session: 2".
struct ClusterOptions {
  int nodes = 1;
  RecordFormat record = RecordFormat::kBf16;
  uint32_t layers = 2;
  std::string model = "test-2-layers";
  std::string cache = "64MiB";
  std::vector<std::string> more_lanes;  // caches of further lanes of each node
  uint32_t replicas = 1;
  TlsFiles tls;  // of the daemons and of the harness itself; empty: plaintext
  std::string limits;
  std::string liveness = "ping_ms: 200, dead_ms: 1000";
  std::string lane;
  std::string session;
  std::string drain;
  std::string store;
  std::string log_level = "debug";
  bool metrics = false;  // the HTTP library takes a second to stop
};

// A daemon's accounting: what must be the same before and after a fault.
struct Accounting {
  uint64_t pages_free = 0;
  uint64_t chunks_open = 0;
  uint64_t chunks_sealed = 0;
  uint64_t chunks_pinned = 0;
  uint64_t requests_in_flight = 0;
  uint64_t bytes_in_flight = 0;
  uint32_t sessions = 0;

  friend bool operator==(const Accounting&, const Accounting&) = default;
};
std::ostream& operator<<(std::ostream& out, const Accounting& accounting);

// One daemon and how to hurt it.
class Node {
 public:
  // `command`: what goes before the daemon's, to run it elsewhere.
  Node(std::string id, std::string endpoint, std::string config_path, std::string log_stem,
       TlsFiles tls, std::vector<std::string> command = {});

  const std::string& id() const { return id_; }
  const std::string& endpoint() const { return endpoint_; }
  const std::string& config_path() const { return config_path_; }
  Control& control() { return control_; }
  // Gives up the connection of control() for a new one.
  void Reconnect() { control_ = Control(endpoint_, tls_); }
  Process& process() { return *process_; }

  void Start();
  // Until health says SERVING and the state is ACTIVE. Throws if the process ends or `limit`
  // passes.
  void WaitUntilReady(absl::Duration limit = absl::Seconds(20));

  void Kill();
  void Freeze();
  void Thaw() { process_->Signal(SIGCONT); }
  void Terminate();
  // Whether the daemon ran until it was told to stop.
  bool end_expected() const { return end_expected_; }
  // A new process at the same address, ready.
  void Restart();

  v1::StatusResponse Status();
  Accounting Account();
  std::vector<v1::Chunk> Chunks();
  // Every sample of /metrics by its name with labels: `latentd_up{node="a"}`.
  std::map<std::string, double> Metrics();
  std::string Log() const { return process_->Err(); }

 private:
  std::string id_;
  std::string endpoint_;
  std::string config_path_;
  std::string log_stem_;
  TlsFiles tls_;
  std::vector<std::string> command_;
  Control control_;
  std::unique_ptr<Process> process_;
  bool end_expected_ = false;
};

// Of a metric's samples with this lane and `label` (`state="open"`), the sum. Throws if there is
// none.
double SumOfLane(const std::map<std::string, double>& metrics, const std::string& name, int lane,
                 const std::string& label = "");

// Liveness for requesters that move only inside their calls (RawRequester): they answer no ping in
// between.
inline constexpr char kPatientLiveness[] = "ping_ms: 20000, dead_ms: 60000";

class Cluster {
 public:
  explicit Cluster(ClusterOptions options = {});
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;
  ~Cluster();

  int size() const { return static_cast<int>(nodes_.size()); }
  Node& node(int index) { return *nodes_.at(static_cast<size_t>(index)); }
  // Any daemon's, to connect to.
  const std::string& endpoint() { return node(0).endpoint(); }

 private:
  std::string folder_;
  std::vector<std::unique_ptr<Node>> nodes_;
};

// Whether this binary is built with AddressSanitizer: it takes several times as long.
bool BuiltWithSanitizer();
// `limit`, or a multiple of it under a sanitizer.
absl::Duration Scaled(absl::Duration limit);

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_CLUSTER_H_
