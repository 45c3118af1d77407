// `PacedLoad` asks questions of a cluster at a fixed rate, whatever becomes of the answers (open
// loop), or, without a rate, as fast as answers come. It compares every answer with the right one
// and keeps when each request was due, when it ended and how.
//
// The constructor starts the requesters, each a thread with a client of its own; Stop ends them. Not
// synchronised beyond that. What is asked must outlive it.
#ifndef LATENTD_TESTS_CLUSTER_BENCHMARKS_PACED_LOAD_H_
#define LATENTD_TESTS_CLUSTER_BENCHMARKS_PACED_LOAD_H_

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/options.h"
#include "tests/cluster/load.h"

namespace latentd::testing {

struct Sample {
  int64_t due_ns = 0;    // on the clock of SteadyNowNs; in a closed loop when it was handed over
  int64_t start_ns = 0;  // when it was handed to the client; its deadline counts from here
  int64_t end_ns = 0;
  absl::Status status;
  bool right = false;
  bool retried = false;  // answered, after another attempt had failed

  double latency_us() const { return static_cast<double>(end_ns - due_ns) / 1e3; }
};

int64_t SteadyNowNs();

struct PacedLoadOptions {
  int requesters = 4;
  double rate = 0;  // requests a second of all of them; 0: each asks one after the other
  absl::Duration timeout = absl::Seconds(2);
};

class PacedLoad {
 public:
  PacedLoad(const std::vector<Question>& questions, ClientOptions client, PacedLoadOptions options);
  ~PacedLoad();

  uint64_t answered() const { return answered_; }
  // Ends the requesters, once all they have asked has ended. Every request, by when it was due.
  // Throws std::runtime_error if a requester could not connect.
  std::vector<Sample> Stop();

 private:
  struct Requester;
  void Run(size_t index);
  void Turn(Requester& requester);
  void Begin(Requester& requester, int64_t due_ns);

  const std::vector<Question>& questions_;
  const ClientOptions client_;
  const PacedLoadOptions options_;
  const int64_t begin_ns_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> answered_{0};
  std::mutex mutex_;
  std::vector<Sample> samples_;  // of requesters that have ended
  std::string failure_;
  std::vector<std::thread> threads_;
};

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_BENCHMARKS_PACED_LOAD_H_
