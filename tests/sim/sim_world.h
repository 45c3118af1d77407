// `SimWorld` is a whole cluster in simulated time: nodes, etcd, network, clients, the faults that
// befall them, all drawn from one seed; and the invariants, checked while it runs. A breach is a
// message in breaches(); the first one ends the run.
//
// One thread.
#ifndef LATENTD_TESTS_SIM_SIM_WORLD_H_
#define LATENTD_TESTS_SIM_SIM_WORLD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "daemon/membership/table_store.h"
#include "tests/sim/sim_etcd.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_node.h"
#include "tests/sim/sim_protocol.h"

namespace latentd::sim {

class SimClient;

// What a run was, to see that it was something.
struct SimCounts {
  uint64_t tables = 0;
  uint64_t faults = 0;
  uint64_t requests = 0;
  uint64_t failed = 0;  // with an error, in time
  uint64_t answers = 0;
  uint64_t sealed = 0;
  uint64_t lost = 0;  // sealed chunks whose slot lost all its holders
  uint64_t events = 0;
};

struct SimOptions {
  uint64_t seed = 1;
  absl::Duration faults_for = absl::Seconds(25);
  bool verbose = false;
};

int IndexOf(const NodeId& node);

class SimWorld {
 public:
  explicit SimWorld(SimOptions options);
  ~SimWorld();

  // Runs it to its end. Empty: no invariant was broken.
  std::vector<std::string> Run();
  const SimCounts& counts() const { return counts_; }

  // ---- what nodes and clients use ----
  SimLoop& loop() { return loop_; }
  SimEtcd& etcd() { return *etcd_; }
  int nodes() const { return static_cast<int>(nodes_.size()); }
  // `done` may run never, or more than once, on nobody's thread: see Guarded.
  void Call(int from, int to, const Request& request, ReplyDone done);
  // On the node's thread, as long as it lives.
  ReplyDone Guarded(SimNode& node, ReplyDone done);
  // Once.
  void CallWithTimeout(SimNode& node, int to, const Request& request, absl::Duration timeout,
                       ReplyDone done);

  // ---- invariants ----
  void CheckDelivered(const SimNode& node, const TablePtr& before, const RoutingTable& table);
  void CheckAnswers(SimNode& node, const Request& request);
  void CheckPrimary(const SimNode& node, Slot slot);
  void Sealed(const ChunkId& chunk, Generation generation);
  // Of a primary that does not wait for the others.
  void Acknowledges(const SimNode& node, const ChunkId& chunk);
  bool MayBeLost(const ChunkId& chunk) const;
  void Ended(bool in_time, bool ok);
  void Breach(const std::string& what);
  void Log(const std::string& what);
  SimCounts& mutable_counts() { return counts_; }
  const std::map<ChunkId, Generation>& sealed() const { return sealed_; }

 private:
  struct Place {
    std::unique_ptr<SimNode> life;
    SimEtcdLink link;
    double clock_rate = 1;
    bool draining = false;
    bool leaving = false;
  };

  void StartNode(int index);
  void Crash(int index);
  void Fault();
  void RandomFault();
  void ScheduleFaults(absl::Time end);
  void Heal();
  void EtcdChanged();
  void CheckNewTable(const TablePtr& before, const TablePtr& table);
  void CheckCredit(const ChunkId& chunk);
  // That those who acknowledged something and have held its slot ever since are not alone with it.
  void CheckNobodyLacksAnything();
  void CheckConverged();
  bool WipeExcuses() const;

  const SimOptions options_;
  SimLoop loop_;
  SimRandom random_;
  absl::Duration ttl_;
  uint32_t replicas_ = 2;
  std::unique_ptr<SimEtcd> etcd_;
  SimNetwork network_;
  std::vector<Place> nodes_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  uint64_t next_generation_ = 1;
  bool wipes_ = false;  // this seed's etcd may lose everything
  bool healed_ = false;

  StoredTable newest_;  // that etcd holds
  std::map<Epoch, uint64_t> chain_of_;
  std::map<std::pair<Epoch, Slot>, Generation> primary_of_;
  std::map<ChunkId, Generation> sealed_;  // acknowledged; generation of the slot then
  std::set<ChunkId> lost_;
  bool acks_all_ = true;
  // Who acknowledged it, and has held its slot ever since; the newest.
  std::map<ChunkId, std::pair<NodeId, Generation>> acknowledged_by_;
  absl::Time wiped_at_ = absl::InfinitePast();
  std::vector<std::string> breaches_;
  SimCounts counts_;
};

}  // namespace latentd::sim

#endif  // LATENTD_TESTS_SIM_SIM_WORLD_H_
