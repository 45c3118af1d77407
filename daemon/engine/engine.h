// `Engine` turns attention requests into answers: it queues them, forms batches, keeps a backend
// busy with them and hands back what is done. What a request may do and where its answer goes is
// its lane's business.
//
// A batch whose requests are all cancelled or past their deadline is abandoned: nobody waits for its
// end, and others wait for its place.
//
// Lane thread only; never blocks. Everything that a problem points to must stay valid and unchanged
// until its job is handed back, cancelled or not.
#ifndef LATENTD_DAEMON_ENGINE_ENGINE_H_
#define LATENTD_DAEMON_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/engine/batcher.h"
#include "kernels/backend.h"
#include "kernels/mla.h"

namespace latentd {

struct EngineOptions {
  BatchLimits batch;
  // Batches given to the backend at once. One more than the backend works on keeps it busy; more
  // would only close batches earlier than needed.
  int max_in_flight = 2;
};

struct EngineRequest {
  uint64_t job = 0;      // the caller's name for it, unique among those not handed back
  uint64_t session = 0;  // whose turn it takes
  absl::Time deadline = absl::InfiniteFuture();
  uint64_t work = 0;  // its rows, each times the tokens that it sees
  Problem problem;    // REQUIRES: valid by kernels/validate.h
};

struct EngineDone {
  uint64_t job = 0;
  // OK; DEADLINE_EXCEEDED when its deadline passed first; CANCELLED; else what the backend says.
  absl::Status status;
  absl::Time started;  // of its batch; InfinitePast when it was never computed
  uint64_t compute_ns = 0;
  uint32_t batch_rows = 0;
  uint32_t batch_requests = 0;
};

class Engine {
 public:
  Engine(std::unique_ptr<Backend> backend, EngineOptions options);

  void Add(const EngineRequest& request);
  // Takes a request out of the queue. False: it is being computed (or unknown) and will be handed
  // back when that is over, which is soon if nobody else waits for its batch.
  bool Cancel(uint64_t job);

  // One turn: drops what has expired, launches what it can, does some of the work, and appends what
  // is over to `done`. True if anything happened.
  bool Turn(absl::Time now, std::vector<EngineDone>& done);

  bool idle() const { return batcher_.empty() && batches_.empty(); }
  // Whether Turn has something to do before the next deadline or completion.
  bool computing() const { return !batches_.empty(); }
  absl::Time next_deadline() const { return batcher_.next_deadline(); }
  // When the oldest of the running batches was launched; InfiniteFuture when none runs.
  absl::Time oldest_batch() const;
  uint64_t rows_queued() const { return batcher_.rows(); }
  // Batches given to the backend at once, at most.
  int max_in_flight() const { return max_in_flight_; }
  uint64_t batches_launched() const { return next_batch_ - 1; }
  std::string DescribeBackend() const { return backend_->Describe(); }

 private:
  struct Job {
    uint64_t job = 0;
    absl::Time deadline;
    bool cancelled = false;
  };
  struct Queued {
    Problem problem;
    absl::Time deadline;
  };
  struct Batch {
    std::vector<Job> jobs;
    std::vector<Problem> problems;
    // The latest deadline of those that wait for it: then nobody does.
    absl::Time wanted_until;
    bool abandoned = false;
    absl::Time started;
    uint32_t rows = 0;
  };

  bool Launch(absl::Time now);
  bool Collect(absl::Time now, std::vector<EngineDone>& done);
  // Abandons what nobody waits for any more.
  void Abandon(absl::Time now);
  bool Expire(absl::Time now, std::vector<EngineDone>& done);

  std::unique_ptr<Backend> backend_;
  const int max_in_flight_;
  Batcher batcher_;
  uint64_t next_batch_ = 1;
  absl::flat_hash_map<uint64_t, Queued> queued_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Batch>> batches_;  // by batch id
  std::vector<std::unique_ptr<Batch>> spare_;                      // kept for their capacity
  std::vector<BatchResult> results_;
  std::vector<uint64_t> jobs_;  // taken from the batcher
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ENGINE_ENGINE_H_
