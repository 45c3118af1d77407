// The planner decides, for each part of a request's context, between route, fetch and local, and
// between in-sync replicas, so that the whole horizon costs least (plan.h's PlanCost).
//
// Pure functions of their arguments that allocate nothing: any thread, any number at once. The same
// arguments give the same plan, whatever the order of holders, parts and replicas.
#ifndef LATENTD_ROUTING_PLANNER_H_
#define LATENTD_ROUTING_PLANNER_H_

#include <span>

#include "absl/status/status.h"
#include "routing/plan.h"

namespace latentd {

struct PlannerOptions {
  // A previous plan is kept unless the new one is cheaper by more than this share of it, so that
  // noise in the constants does not make plans flap. 0: always the cheapest.
  double keep_margin = 0.1;
};

// Writes the plan with the least total among those that meet the deadline; if none does, the one
// whose first step ends soonest. It never takes more than the request's free cache bytes. A holder
// that is saturated costs its queue, so others, or fetching, come to be cheaper.
//
// How good it is. No other plan is cheaper if there are at most kMaxTriedPlans to try; or if no two
// parts have a holder in common and no fetch or prefill costs less than merging its part's partials
// over the horizon (then whatever takes the slowest part away first is best: to gain, a plan must
// shorten the longest round trip, and for that every longer one has to go). Otherwise the plan is
// improved until no change of a single part betters it, nor of two where the first makes a layer as
// long as it is; docs/cost-model.md says how far from the best that was seen to be.
//
// `previous`: an earlier plan for the same parts (by id; in any order, some may have gone or be
// new) or null. It is kept as long as it can be carried out and meets a deadline that the new one
// meets too.
//
// As CheckPlanRequest for a request that is none. FAILED_PRECONDITION: a part that has no replica
// in sync and may not be computed anew. RESOURCE_EXHAUSTED: the parts that cannot be routed to find
// no room in the requester's cache. INVALID_ARGUMENT: a margin outside of [0, 1).
absl::Status MakePlan(const PlanRequest& request, std::span<const PlanHolder> holders,
                      const RequesterConstants& requester, const Plan* previous,
                      const PlannerOptions& options, Plan& plan);

inline constexpr size_t kMaxTriedPlans = 64;

}  // namespace latentd

#endif  // LATENTD_ROUTING_PLANNER_H_
