// Why a plan is as it is: every term of every alternative in µs, and the reason in words. Made on
// demand and apart from the decision, which has no time for it; `latentctl explain` prints it.
//
// Pure function, value with heap; any thread.
#ifndef LATENTD_ROUTING_PLAN_EXPLANATION_H_
#define LATENTD_ROUTING_PLAN_EXPLANATION_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "routing/plan.h"

namespace latentd {

struct ExplainedTerm {
  const char* name;  // as in cost_model.h
  double us = 0;
};

// One thing that could be done about one part.
struct ExplainedAlternative {
  Primitive primitive = Primitive::kRoute;
  uint64_t holder_id = 0;  // 0 for local
  bool chosen = false;
  std::string excluded;  // why it cannot be done; empty: it can
  // Paid once (fetch, local) or in each layer of each step (route), for this part alone.
  std::vector<ExplainedTerm> terms;
  double once_us = 0;
  double layer_us = 0;
  // As if the request had no other part: fetch and local with the attention at the requester,
  // route with the merge.
  double horizon_us = 0;
  // Constants behind the terms that are not plainly measured: "in_bandwidth stale". Empty: none.
  std::string doubts;
};

struct ExplainedPart {
  uint64_t id = 0;
  uint64_t tokens = 0;
  uint64_t cache_bytes = 0;  // that fetch or local would take
  std::vector<ExplainedAlternative> alternatives;
};

struct PlanExplanation {
  PlanCost cost;
  double deadline_us = 0;
  uint64_t steps = 0;
  uint32_t layers = 0;
  std::vector<ExplainedTerm> layer_terms;  // of one layer: waiting, attention here, merge
  uint64_t cache_bytes = 0;
  uint64_t free_cache_bytes = 0;
  std::vector<ExplainedPart> parts;
  std::string reason;
};

// `plan` is MakePlan's answer to these arguments. INVALID_ARGUMENT if it has other parts or a
// holder that is none of them; else as CheckPlanRequest.
absl::StatusOr<PlanExplanation> ExplainPlan(const PlanRequest& request,
                                            std::span<const PlanHolder> holders,
                                            const RequesterConstants& requester, const Plan& plan);

// Lines of text, one alternative a line, the chosen ones with a star. `holder_name` of an id; empty,
// or none given: the id in hexadecimal.
using HolderName = std::function<std::string(uint64_t holder_id)>;
std::string ToText(const PlanExplanation& explanation, const HolderName& holder_name = nullptr);

}  // namespace latentd

#endif  // LATENTD_ROUTING_PLAN_EXPLANATION_H_
