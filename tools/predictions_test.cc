#include "tools/predictions.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "routing/planner_test_util.h"

namespace latentd {
namespace {

// Two holders of which the second is farther away.
struct Far : TestWorld {
  Far() {
    AddHolder(16);
    AddHolder(40);
  }
};

RoutePrediction Route(const TestWorld& world, const PredictionCase& one) {
  return PredictRoute(world.layout, world.holders, world.requester, one);
}

TEST_CASE("a layer waits for the slowest holder and merges what all of them answer") {
  const Far world;
  const RoutePrediction one = Route(world, {.rows = 128, .tokens = 2048, .holders = 1});
  const RoutePrediction two = Route(world, {.rows = 128, .tokens = 2048, .holders = 2});
  CHECK(one.slowest.probe_us == 16);
  CHECK(two.slowest.probe_us == 40);
  CHECK(two.merge_us == Approx(2 * one.merge_us));
  CHECK(two.layer_us == Approx(two.slowest.RoundTripUs() + two.merge_us));
}

TEST_CASE("a case that is planned is routed for a step and fetched for many") {
  const Far world;
  PredictionCase one = {.rows = 128, .tokens = 2048, .holders = 2, .steps = 1};
  CHECK(PlanCase(world.layout, world.holders, world.requester, one)->fetched == 0);
  one.steps = 100'000;
  const auto planned = PlanCase(world.layout, world.holders, world.requester, one);
  CHECK(planned->fetched == 2);
  CHECK(planned->local == 0);
  one.steps = 0;
  CHECK(absl::IsInvalidArgument(
      PlanCase(world.layout, world.holders, world.requester, one).status()));
}

TEST_CASE("a crowd waits as one requester does until its rows fill the holder") {
  const Far world;
  const PredictionCase one = {.rows = 16, .tokens = 2048};
  const auto crowd = [&](uint32_t requesters) {
    return PredictFaninUs(world.layout, world.holders[0], world.requester, one, requesters);
  };
  CHECK(crowd(1) == Approx(Route(world, one).layer_us));
  for (uint32_t requesters = 1; requesters < 64; ++requesters)
    CHECK(crowd(requesters + 1) >= crowd(requesters));
  const ComputePricer batch(*world.holders[0].node, RecordFormat::kBf16, 16 * 32, 0);
  const RouteTerms terms = Route(world, one).slowest;
  const double lane_us = 32 * (terms.probe_us + terms.transfer_us + terms.return_us);
  CHECK(crowd(64) == Approx(std::max(2 * batch.Us(2048), lane_us)));
}

}  // namespace
}  // namespace latentd
