#include "tools/predictions.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "routing/planner.h"

namespace latentd {

RoutePrediction PredictRoute(const Layout& layout, std::span<const PlanHolder> holders,
                             const RequesterConstants& requester, const PredictionCase& one) {
  RoutePrediction prediction;
  const double merge_us = requester.merge_us.Usable();
  for (const PlanHolder& holder : holders.first(one.holders)) {
    RoutePricer pricer;
    pricer.Reset(*holder.node, holder.pair, holder.load, merge_us, layout.geometry(),
                 layout.record_format, one.rows);
    const RouteTerms terms = pricer.Terms(one.tokens, 1);
    prediction.merge_us += terms.merge_us;
    if (terms.RoundTripUs() > prediction.slowest.RoundTripUs()) prediction.slowest = terms;
  }
  prediction.layer_us = prediction.slowest.RoundTripUs() + prediction.merge_us;
  return prediction;
}

absl::StatusOr<PlannedCase> PlanCase(const Layout& layout, std::span<const PlanHolder> holders,
                                     const RequesterConstants& requester,
                                     const PredictionCase& one) {
  std::vector<PlanPart> parts(one.holders);
  for (uint32_t i = 0; i < one.holders; ++i) {
    parts[i].id = i + 1;
    parts[i].tokens = one.tokens;
    parts[i].ranges = one.ranges;
    parts[i].may_recompute = one.may_recompute;
    parts[i].replica_count = 1;
    parts[i].replicas[0] = static_cast<uint8_t>(i);
  }
  const PlanRequest request = {.layout = &layout,
                               .rows = one.rows,
                               .steps = one.steps,
                               .free_cache_bytes = uint64_t{1} << 50,
                               .parts = parts};
  const auto plan = std::make_unique<Plan>();
  if (absl::Status s = MakePlan(request, holders.first(one.holders), requester, nullptr, {}, *plan);
      !s.ok()) {
    return s;
  }
  PlannedCase planned = {.total_us = plan->cost.total_us};
  for (const PartChoice& choice : plan->Choices()) {
    if (choice.primitive == Primitive::kFetch) ++planned.fetched;
    if (choice.primitive == Primitive::kLocal) ++planned.local;
  }
  return planned;
}

double PredictFaninUs(const Layout& layout, const PlanHolder& holder,
                      const RequesterConstants& requester, const PredictionCase& one,
                      uint32_t requesters) {
  const RoutePrediction alone = PredictRoute(layout, {&holder, 1}, requester, one);
  if (requesters < 2) return alone.layer_us;
  const double rows = 0.5 * one.rows * requesters;
  const ComputePricer batch(*holder.node, layout.record_format, rows, 0);
  const RouteTerms& terms = alone.slowest;
  const double link_us = terms.probe_us + terms.transfer_us + terms.return_us;
  return std::max({alone.layer_us, 2 * batch.Us(one.tokens), 0.5 * requesters * link_us});
}

FetchTerms PredictFetch(const Layout& layout, const PlanHolder& holder,
                        const RequesterConstants& requester, const PredictionCase& one) {
  return PriceFetch(holder.pair, requester,
                    {.tokens = one.tokens,
                     .layers = layout.layers,
                     .record_bytes = layout.record_bytes(),
                     .ranges = one.ranges});
}

}  // namespace latentd
