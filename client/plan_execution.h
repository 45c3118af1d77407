// What a plan (routing/plan.h) means for calls: what to fetch before the first query, what the caller
// computes anew, and what routes. Queries then stay as they are, with use_cache: what was fetched is
// attended here, what was not goes to its holders, and the answers merge exactly.
//
// Pure; any thread.
#ifndef LATENTD_CLIENT_PLAN_EXECUTION_H_
#define LATENTD_CLIENT_PLAN_EXECUTION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "client/query.h"
#include "routing/plan.h"

namespace latentd {

// The chunks of a part that was planned for, as the query names them.
struct PlannedPart {
  uint64_t id = 0;  // PlanPart::id
  std::span<const VisibleChunk> chunks;
};

// The parts of `fetch` point into it.
struct PlanSteps {
  PlanSteps() = default;
  PlanSteps(PlanSteps&&) = default;
  PlanSteps& operator=(PlanSteps&&) = default;

  std::vector<CachePart> fetch;  // for Client::FetchToCache: what is visible, in all layers
  std::vector<VisibleChunk> route;
  // To be left out of queries, and the answers merged with the caller's own over these.
  std::vector<VisibleChunk> recompute;
  std::vector<TokenRun> runs;  // of `fetch`
};

// INVALID_ARGUMENT: `parts` are not those that the plan was made for, in their order.
absl::StatusOr<PlanSteps> StepsOf(const Plan& plan, std::span<const PlannedPart> parts);

}  // namespace latentd

#endif  // LATENTD_CLIENT_PLAN_EXECUTION_H_
