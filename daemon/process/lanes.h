// From the configuration to lanes.
#ifndef LATENTD_DAEMON_PROCESS_LANES_H_
#define LATENTD_DAEMON_PROCESS_LANES_H_

#include <memory>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/config.h"
#include "daemon/lane/lane.h"
#include "daemon/lane/lane_options.h"

namespace latentd {

// What lanes use of the rest of the daemon. It must outlive them.
struct LaneSeams {
  ReplicaSink* replica_sink = nullptr;  // null: nothing goes to other nodes
  const ServingFence* fence = nullptr;  // null: always open
};

// What each lane is told, in lane order. Pure.
std::vector<LaneOptions> MakeLaneOptions(const Config& config, Generation generation,
                                         const LaneSeams& seams = {});

// INVALID_ARGUMENT naming the key of the first CPU that a lane is to be bound to and is not among
// `allowed`; without any, nothing is known and all is well.
absl::Status CheckCpus(const Config& config, const std::set<int>& allowed);

// Makes every lane, started none. Errors name the lane and what it could not get.
absl::StatusOr<std::vector<std::unique_ptr<Lane>>> MakeLanes(const Config& config,
                                                             Generation generation,
                                                             const LaneSeams& seams = {});

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_LANES_H_
