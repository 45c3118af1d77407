// Making a lane on a device that is given, for tests with devices of their own.
#ifndef LATENTD_DAEMON_LANE_MAKE_LANE_H_
#define LATENTD_DAEMON_LANE_MAKE_LANE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "daemon/lane/lane.h"
#include "daemon/lane/lane_device.h"
#include "daemon/lane/lane_options.h"
#include "transport/worker.h"

namespace latentd {

// As Lane::Create, which takes the device that options.device names.
absl::StatusOr<std::unique_ptr<Lane>> MakeLane(LaneOptions options,
                                               std::shared_ptr<Context> context,
                                               const LaneDevice& device);

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_MAKE_LANE_H_
