// A batch of a lane's own, which it times: attention of made-up rows over made-up records, in pages
// that no chunk has.
#ifndef LATENTD_DAEMON_LANE_BATCH_TRIAL_H_
#define LATENTD_DAEMON_LANE_BATCH_TRIAL_H_

#include <cstdint>
#include <vector>

namespace latentd {

struct BatchTrial {
  uint32_t query_tokens = 1;
  uint32_t heads = 1;
  uint32_t visible_tokens = 1;
  // As many such batches in flight as the device is given at once; false: each one alone.
  bool keep_busy = false;
  uint32_t warmups = 2;  // batches first that are not timed
  uint32_t batches = 5;  // that are
};

struct BatchTimes {
  std::vector<double> us;    // from looking at a batch's rows to its end
  bool interrupted = false;  // something to do for others came before all had been timed
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_BATCH_TRIAL_H_
