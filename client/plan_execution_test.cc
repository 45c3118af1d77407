#include "client/plan_execution.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

constexpr ChunkId kA = {1, 1}, kB = {2, 1}, kC = {3, 1}, kD = {4, 1};

TEST_CASE("each part of a plan becomes what was chosen for it") {
  const VisibleChunk routed[] = {{kA, 10}};
  const VisibleChunk fetched[] = {{kB, 20, 7}, {kC, 0}, {kC, 30}};
  const VisibleChunk computed[] = {{kD, 40}};
  const PlannedPart parts[] = {{5, routed}, {6, fetched}, {7, computed}};
  Plan plan;
  plan.parts = 3;
  plan.choices[0] = {.part_id = 5, .primitive = Primitive::kRoute};
  plan.choices[1] = {.part_id = 6, .primitive = Primitive::kFetch};
  plan.choices[2] = {.part_id = 7, .primitive = Primitive::kLocal};
  auto made = StepsOf(plan, parts);
  REQUIRE(made.ok());
  const PlanSteps steps = *std::move(made);
  REQUIRE(steps.route.size() == 1);
  CHECK(steps.route[0].id == kA);
  REQUIRE(steps.recompute.size() == 1);
  CHECK(steps.recompute[0].id == kD);
  REQUIRE(steps.fetch.size() == 2);
  CHECK(steps.fetch[0].chunk == kB);
  CHECK(steps.fetch[0].position_shift == 7);
  REQUIRE(steps.fetch[0].runs.size() == 1);
  CHECK(steps.fetch[0].runs[0] == TokenRun{0, 20});
  CHECK(steps.fetch[1].runs[0] == TokenRun{0, 30});
}

TEST_CASE("a plan for other parts is refused") {
  Plan plan;
  plan.parts = 1;
  plan.choices[0] = {.part_id = 5};
  const PlannedPart other[] = {{6, {}}};
  CHECK(absl::IsInvalidArgument(StepsOf(plan, {}).status()));
  CHECK(absl::IsInvalidArgument(StepsOf(plan, other).status()));
}

}  // namespace
}  // namespace latentd
