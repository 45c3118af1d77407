#include "client/lane_link.h"

#include <algorithm>

namespace latentd {

LivenessStep LaneLink::CheckLiveness(const LivenessRules& rules, uint64_t now_ns) const {
  if (outstanding == 0) return LivenessStep::kNothing;
  const uint64_t since = std::max(heard_ns, owed_since_ns);
  const uint64_t silent_ns = now_ns > since ? now_ns - since : 0;
  if (silent_ns >= rules.dead_after_ns) return LivenessStep::kGiveUp;
  if (silent_ns < rules.ping_after_ns || pinged_ns > since) return LivenessStep::kNothing;
  return LivenessStep::kPing;
}

}  // namespace latentd
