// Times one lane's device over the whole grid, while it serves.
//
// Blocking: for a thread of the caller's own. The lane yields to whatever else it has to do; what
// was interrupted is tried again.
#ifndef LATENTD_DAEMON_CALIBRATION_LANE_SURVEY_H_
#define LATENTD_DAEMON_CALIBRATION_LANE_SURVEY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/lane/lane.h"
#include "routing/compute_table.h"

namespace latentd {

struct LaneSurveyOptions {
  uint32_t heads = 16;
  // Of the lane's time while it is idle, at most; 1: without pauses.
  double share = 0.1;
  absl::Duration longest_batch = absl::Milliseconds(20);
  // A lane that has so long been too busy for the next point is given up.
  absl::Duration patience = absl::Minutes(5);
};

struct LaneTables {
  ComputeTable latency;
  ComputeTable throughput;
  size_t points = 0;     // timed
  absl::Status trouble;  // why there are not more of them; OK: there are all that fit
};

enum class Pause : uint8_t {
  kRest,  // the lane is let alone for its share of the time; not where somebody waits for results
  kBackOff,  // requests came: it is tried again after this, whoever waits
};
// Waits for so long, or until it is to end: then true.
using WaitOrEnd = std::function<bool(Pause, absl::Duration)>;

// A lane that has been too busy for `patience` is not timed further: tables are of the points before.
// CANCELLED: told to end; DEADLINE_EXCEEDED: the lane was too busy for a table; RESOURCE_EXHAUSTED:
// its cache has no page to spare; otherwise as Lane::TimeBatches. The lane has its pages back.
absl::StatusOr<LaneTables> SurveyLane(Lane& lane, const LaneSurveyOptions& options,
                                      const WaitOrEnd& wait);

}  // namespace latentd

#endif  // LATENTD_DAEMON_CALIBRATION_LANE_SURVEY_H_
