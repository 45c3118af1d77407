// `SimClient` is a frontend: it publishes chunks in two parts, seals them, and attends them, with
// the client library's own rules of what is worth another attempt (client/retry.h). Each of its
// requests ends by its deadline.
//
// One thread.
#ifndef LATENTD_TESTS_SIM_SIM_CLIENT_H_
#define LATENTD_TESTS_SIM_SIM_CLIENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "client/retry.h"
#include "daemon/membership/membership.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_protocol.h"

namespace latentd::sim {

class SimWorld;

class SimClient {
 public:
  // `address`: in the network; no node has it.
  SimClient(SimWorld* world, int address, uint64_t seed);
  ~SimClient();

  // Starts no more requests.
  void Stop() { stopped_ = true; }
  // Attends every sealed chunk that must be there. `done`: each has been answered.
  void AttendEverything(std::function<void(bool all_answered)> done);

 private:
  struct Operation;
  struct Progress {  // of a chunk that this client publishes
    uint8_t published = 0;
    bool sealed = false;
    Generation generation{};  // of the slot when its first part was acknowledged
  };
  using OperationDone = std::function<void(const absl::Status&)>;

  void Tick();
  void PollTable();
  void AskTable(int node, std::function<void()> then);
  void Take(const TablePtr& table);
  void PublishNext();
  void AttendSome();
  void Start(Request request, absl::Duration time, OperationDone done);
  void Attempt(const std::shared_ptr<Operation>& op);
  void Answered(const std::shared_ptr<Operation>& op, int attempt, int node, const Reply& reply);
  void TryAgain(const std::shared_ptr<Operation>& op, const Reply& reply, int node);
  void Refresh(const std::shared_ptr<Operation>& op, Epoch epoch);
  void AwaitPrimary(const std::shared_ptr<Operation>& op, int lost, absl::Time until);
  void End(const std::shared_ptr<Operation>& op, const absl::Status& status);
  ReplyDone Guarded(ReplyDone done);

  SimWorld* const world_;
  const int address_;
  SimRandom random_;
  SimClock clock_;
  TablePtr table_;
  std::map<int, uint64_t> sessions_;
  std::map<ChunkId, Progress> chunks_;
  bool stopped_ = false;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace latentd::sim

#endif  // LATENTD_TESTS_SIM_SIM_CLIENT_H_
