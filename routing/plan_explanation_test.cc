#include "routing/plan_explanation.h"

#include <string>

#include <catch2/catch.hpp>

#include "routing/planner_test_util.h"

namespace latentd {
namespace {

PlanExplanation Explain(const TestWorld& world, const Plan& plan) {
  return ExplainPlan(world.Request(), world.holders, world.requester, plan).value();
}

TEST_CASE("an explanation shows every alternative of every part, and which was chosen") {
  TestWorld world;
  const uint8_t a = world.AddHolder(16);
  const uint8_t b = world.AddHolder(40);
  world.AddPart({a, b}).may_recompute = true;
  world.AddPart({b});
  const Plan plan = world.MustPlan();
  const PlanExplanation all = Explain(world, plan);
  REQUIRE(all.parts.size() == 2);
  CHECK(all.parts[0].alternatives.size() == 5);
  CHECK(all.parts[1].alternatives.size() == 3);
  for (size_t i = 0; i < 2; ++i) {
    int chosen = 0;
    for (const ExplainedAlternative& one : all.parts[i].alternatives) {
      if (one.chosen) {
        ++chosen;
        CHECK(one.primitive == plan.choices[i].primitive);
        CHECK(one.excluded.empty());
      }
      double sum = 0;
      for (const ExplainedTerm& term : one.terms) sum += term.us;
      CHECK(sum == Approx(one.primitive == Primitive::kRoute ? one.layer_us : one.once_us));
    }
    CHECK(chosen == 1);
  }
  CHECK(all.parts[1].alternatives[2].excluded == "the requester cannot compute the part anew");
}

TEST_CASE("the terms of the plan add up to its cost, whatever the plan") {
  for (uint32_t seed = 1; seed <= 100; ++seed) {
    INFO("seed " << seed);
    const TestWorld world = DrawWorld(seed, 1 + seed % 8, seed % 2 == 0);
    const PlanExplanation all = Explain(world, world.MustPlan());
    double setup_us = 0;
    for (const ExplainedPart& part : all.parts)
      for (const ExplainedAlternative& one : part.alternatives)
        if (one.chosen) setup_us += one.once_us;
    CHECK(setup_us == Approx(all.cost.setup_us).margin(1e-6));
    CHECK(std::max(all.layer_terms[0].us, all.layer_terms[1].us) + all.layer_terms[2].us ==
          Approx(all.cost.layer_us));
    CHECK(all.layer_terms[2].us > -1e-9);
    CHECK_FALSE(ToText(all).empty());
    CHECK(ToText(all, [](uint64_t) { return "node-x"; }).find("node-x") != std::string::npos);
  }
}

TEST_CASE("without room the explanation says so") {
  TestWorld world;
  world.AddPart({world.AddHolder(16)}).may_recompute = true;
  world.free_cache_bytes = 1000;
  world.steps = 100000;
  const PlanExplanation all = Explain(world, world.MustPlan());
  for (const ExplainedAlternative& one : all.parts[0].alternatives) {
    if (one.primitive == Primitive::kRoute) continue;
    CHECK(one.excluded.find("no room") == 0);
    CHECK(one.excluded.find("1000 are free") != std::string::npos);
  }
  CHECK(ToText(all).find("excluded: no room") != std::string::npos);
}

TEST_CASE("constants that are not plainly measured are named") {
  TestWorld world;
  world.AddPart({world.AddHolder(16)});
  CHECK(Explain(world, world.MustPlan()).parts[0].alternatives[0].doubts.empty());
  MarkStale(world.holders[0].pair);
  world.holders[0].load = {.saturated = true};
  const PlanExplanation all = Explain(world, world.MustPlan());
  CHECK(all.parts[0].alternatives[0].doubts ==
        "probe stale, out_bandwidth stale, in_bandwidth stale, queue missing, holder is saturated");
}

TEST_CASE("the reason is in words") {
  TestWorld world;
  world.AddPart({world.AddHolder(16)});
  world.steps = 100000;
  Plan plan = world.MustPlan();
  CHECK(Explain(world, plan).reason.find("0 routed, 1 fetched, 0 local") == 0);
  CHECK(Explain(world, plan).reason.find("no plan seen is cheaper") != std::string::npos);
  world.deadline_us = plan.cost.first_step_us - 1;
  CHECK(Explain(world, world.MustPlan()).reason.find("after the deadline") != std::string::npos);
  world.deadline_us = 1;
  CHECK(Explain(world, world.MustPlan()).reason.find("the soonest") != std::string::npos);
}

TEST_CASE("a plan of another request is not explained") {
  TestWorld world;
  world.AddPart({world.AddHolder(16)});
  const Plan plan = world.MustPlan();
  const auto refused = [&](const TestWorld& other) {
    return absl::IsInvalidArgument(
        ExplainPlan(other.Request(), other.holders, other.requester, plan).status());
  };
  TestWorld other = world;
  other.parts[0].id = 6;
  CHECK(refused(other));
  other = world;
  other.holders[0].id = 6;
  CHECK(refused(other));
  other = world;
  other.AddPart({0});
  CHECK(refused(other));
}

}  // namespace
}  // namespace latentd
