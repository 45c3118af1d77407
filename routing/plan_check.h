// What a request for a plan must be like. Pure; any thread.
#ifndef LATENTD_ROUTING_PLAN_CHECK_H_
#define LATENTD_ROUTING_PLAN_CHECK_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "routing/plan.h"

namespace latentd {

inline constexpr uint64_t kMaxPlanRows = uint64_t{1} << 24;
inline constexpr uint64_t kMaxPlanSteps = uint64_t{1} << 32;
inline constexpr uint64_t kMaxPlanTokens = uint64_t{1} << 30;  // of a part; and resident ones
inline constexpr uint64_t kMaxPlanPageBytes = uint64_t{1} << 27;

// INVALID_ARGUMENT names the field, or the part or holder by its id: no rows, steps, tokens or
// layers, beyond the limits above, a replica that is no holder's index, a deadline that is no time.
// Of a part that is shifted as CheckShift (kernels/rope.h): FAILED_PRECONDITION where the layout has
// no rope part to turn, OUT_OF_RANGE beyond the model's positions.
absl::Status CheckPlanRequest(const PlanRequest& request, std::span<const PlanHolder> holders);

}  // namespace latentd

#endif  // LATENTD_ROUTING_PLAN_CHECK_H_
