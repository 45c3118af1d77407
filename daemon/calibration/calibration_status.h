// How far a node's calibration is, for status and metrics. A value.
#ifndef LATENTD_DAEMON_CALIBRATION_CALIBRATION_STATUS_H_
#define LATENTD_DAEMON_CALIBRATION_CALIBRATION_STATUS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace latentd {

struct CalibrationStatus {
  bool under_way = false;
  absl::Time lanes_measured = absl::InfinitePast();  // when all of them had been, last
  uint64_t links = 0;                                // that are known
  uint64_t failures = 0;                             // of lanes and links to be measured
  std::vector<std::string> troubles;                 // what last could not be measured, and why
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_CALIBRATION_CALIBRATION_STATUS_H_
