// What every fault test needs: a cluster with etcd, sealed chunks on it, a load that compares every
// answer, and a publisher that goes on sealing new chunks and remembers which were acknowledged.
#ifndef LATENTD_TESTS_CLUSTER_FAULT_WORLD_H_
#define LATENTD_TESTS_CLUSTER_FAULT_WORLD_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tests/cluster/etcd_cluster.h"
#include "tests/cluster/load.h"
#include "tests/cluster/oracle.h"

namespace latentd::testing {

// Whether there can be no such cluster here; says why, as a warning of the test.
bool Skipped();

// Publishes and seals one small chunk after another, on a thread of its own. What fails it tries
// again until that succeeds: everything that a daemon acknowledged must be there at the end.
class AckedPublisher {
 public:
  AckedPublisher(ClientOptions options, uint64_t seed);
  ~AckedPublisher();

  uint64_t acknowledged() const { return acknowledged_; }
  uint64_t failures() const { return failures_; }
  absl::Status first_failure() const;
  // Ends publishing; the chunks that were acknowledged.
  const std::deque<ChunkData>& Stop();

 private:
  void Failed(const absl::Status& status);
  void Run(ClientOptions options, uint64_t seed);

  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> acknowledged_{0};
  std::atomic<uint64_t> failures_{0};
  mutable std::mutex mutex_;
  absl::Status first_failure_;
  std::deque<ChunkData> chunks_;  // those acknowledged; the thread's until Stop
  std::thread thread_;
};

struct FaultWorldOptions {
  EtcdClusterOptions cluster;
  int chunks = 12;
  int askers = 2;
  // Of one question. A holder that hangs must cost less than this.
  absl::Duration timeout = absl::Seconds(3);
};

class FaultWorld {
 public:
  explicit FaultWorld(FaultWorldOptions options = {});

  EtcdCluster& cluster() { return cluster_; }
  VerifyingLoad& load() { return *load_; }
  AckedPublisher& publisher() { return *publisher_; }
  const AckedPublisher& publisher() const { return *publisher_; }
  // Sealed, and what the load asks for.
  const std::deque<ChunkData>& chunks() const { return chunks_; }
  absl::Duration timeout() const { return options_.timeout; }

  // Right answers come, and nothing but right answers, for a while (`limit` to get there): the
  // fault is over for its users.
  bool Recovers(absl::Duration limit);
  // Ends the load and asks for every chunk that was ever acknowledged, one by one: the failures.
  std::vector<absl::Status> AskForEverything();

 private:
  const FaultWorldOptions options_;
  EtcdCluster cluster_;
  std::deque<ChunkData> chunks_;
  std::vector<Question> questions_;
  std::unique_ptr<VerifyingLoad> load_;
  std::unique_ptr<AckedPublisher> publisher_;
};

// Nothing was wrong, and what failed was one of the errors that a fault may cause, in time.
void CheckHarmless(const FaultWorld& world, const Tally& tally);
// No question failed.
void CheckUnharmed(const FaultWorld& world, const Tally& tally);
// Nor did anything that was published, since the start.
void CheckPublisherUnharmed(const FaultWorld& world);

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_FAULT_WORLD_H_
