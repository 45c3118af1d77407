// What the cost model says of the cases that the tools measure: the same number of tokens at each of
// the first holders. Pure; any thread.
#ifndef LATENTD_TOOLS_PREDICTIONS_H_
#define LATENTD_TOOLS_PREDICTIONS_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "routing/cost_model.h"
#include "routing/plan.h"

namespace latentd {

struct PredictionCase {
  uint32_t rows = 0;
  uint32_t tokens = 0;  // at each holder
  uint32_t holders = 1;
  uint32_t steps = 1;
  uint64_t ranges = 1;  // of each holder's fetch
  bool may_recompute = false;
};

struct RoutePrediction {
  RouteTerms slowest;   // of the holder that a layer waits for
  double merge_us = 0;  // of all holders
  double layer_us = 0;
};

// REQUIRES: at least `holders` of them.
RoutePrediction PredictRoute(const Layout& layout, std::span<const PlanHolder> holders,
                             const RequesterConstants& requester, const PredictionCase& one);

// How many of the holders' parts the planner fetches, or computes anew, in the plan that it makes;
// the rest is routed. The requester has room for all. Errors as MakePlan.
struct PlannedCase {
  uint32_t fetched = 0;
  uint32_t local = 0;
  double total_us = 0;
};
absl::StatusOr<PlannedCase> PlanCase(const Layout& layout, std::span<const PlanHolder> holders,
                                     const RequesterConstants& requester,
                                     const PredictionCase& one);

// What each of `requesters` waits that all attend the same tokens of one holder, each with one query
// in flight and a processor of its own, in µs. While one batch is computed the others' rows come
// together for the next, so that half of them are computed in turns; and the lane takes and answers
// one request after the other, with its half of what the link costs (the other half is the
// requester's).
//   max(route alone, 2 * compute(rows * requesters / 2, tokens),
//       requesters * (probe + transfer + return) / 2)
double PredictFaninUs(const Layout& layout, const PlanHolder& holder,
                      const RequesterConstants& requester, const PredictionCase& one,
                      uint32_t requesters);

// A fetch of all layers of one holder's tokens.
FetchTerms PredictFetch(const Layout& layout, const PlanHolder& holder,
                        const RequesterConstants& requester, const PredictionCase& one);

}  // namespace latentd

#endif  // LATENTD_TOOLS_PREDICTIONS_H_
