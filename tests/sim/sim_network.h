// Messages between nodes and clients: late, lost, overtaken by others, delivered twice, or cut off.
//
// One thread.
#ifndef LATENTD_TESTS_SIM_SIM_NETWORK_H_
#define LATENTD_TESTS_SIM_SIM_NETWORK_H_

#include <functional>
#include <set>
#include <utility>

#include "tests/sim/sim_loop.h"

namespace latentd::sim {

class SimNetwork {
 public:
  SimNetwork(SimLoop* loop, uint64_t seed) : loop_(loop), random_(seed) {}

  // Of all messages.
  double loss = 0;
  double duplicates = 0;

  // One way: asymmetric partitions are two of these, or one.
  void Cut(int from, int to) { cut_.emplace(from, to); }
  void HealAll() {
    cut_.clear();
    loss = duplicates = 0;
  }

  void Send(int from, int to, std::function<void()> deliver) {
    if (cut_.contains({from, to}) || random_.Chance(loss)) return;
    if (random_.Chance(duplicates)) loop_->After(Delay(), deliver);
    loop_->After(Delay(), std::move(deliver));
  }

 private:
  absl::Duration Delay() {
    return random_.Between(absl::Microseconds(50), absl::Milliseconds(2)) *
           (random_.Chance(0.01) ? 100 : 1);
  }

  SimLoop* const loop_;
  SimRandom random_;
  std::set<std::pair<int, int>> cut_;
};

}  // namespace latentd::sim

#endif  // LATENTD_TESTS_SIM_SIM_NETWORK_H_
