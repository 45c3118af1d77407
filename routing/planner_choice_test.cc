#include <limits>
#include <random>
#include <string>

#include <catch2/catch.hpp>

#include "routing/plan_check.h"
#include "routing/planner.h"
#include "routing/planner_test_util.h"

namespace latentd {
namespace {

TEST_CASE("one step is routed and a long horizon is fetched") {
  TestWorld world;
  world.AddPart({world.AddHolder(16)});
  world.steps = 1;
  CHECK(world.MustPlan().choices[0].primitive == Primitive::kRoute);
  world.steps = 100000;
  CHECK(world.MustPlan().choices[0].primitive == Primitive::kFetch);
  world.parts[0].may_fetch = false;
  CHECK(world.MustPlan().choices[0].primitive == Primitive::kRoute);
  world.parts[0].may_recompute = true;
  CHECK(world.MustPlan().choices[0].primitive == Primitive::kLocal);
}

TEST_CASE("without room nothing is fetched") {
  TestWorld world;
  world.AddPart({world.AddHolder(16)});
  world.steps = 100000;
  world.free_cache_bytes = 33 * world.layout.page_bytes();
  CHECK(world.MustPlan().choices[0].primitive == Primitive::kFetch);
  CHECK(world.MustPlan().cache_bytes == 32 * world.layout.page_bytes());
  world.parts[0].chunks = 3;  // pages that are not full
  CHECK(world.MustPlan().choices[0].primitive == Primitive::kRoute);
  CHECK(world.MustPlan().cache_bytes == 0);
}

TEST_CASE("some holders route and some are fetched from") {
  TestWorld world;
  world.AddPart({world.AddHolder(16)});
  world.AddPart({world.AddHolder(2000)});
  world.free_cache_bytes = 40 * world.layout.page_bytes();
  const Plan plan = world.MustPlan();
  CHECK(plan.choices[0].primitive == Primitive::kRoute);
  CHECK(plan.choices[1].primitive == Primitive::kFetch);
}

TEST_CASE("a part goes to its cheaper replica, and off one that refuses") {
  TestWorld world;
  const uint8_t near = world.AddHolder(16);
  const uint8_t far = world.AddHolder(30);
  world.AddPart({far, near});
  world.steps = 1;
  CHECK(world.MustPlan().choices[0].holder == near);
  world.holders[near].load.saturated = true;
  CHECK(world.MustPlan().choices[0].holder == far);
  world.holders[far].load.saturated = true;
  CHECK(world.MustPlan().choices[0].primitive == Primitive::kFetch);
}

TEST_CASE("parts of the same replicas are spread over them") {
  TestWorld world;
  const uint8_t a = world.AddHolder(16);
  const uint8_t b = world.AddHolder(16);
  world.rows = 2048;
  world.steps = 1;
  for (int i = 0; i < 4; ++i) world.AddPart({a, b}, 16384);
  int on_a = 0;
  const Plan plan = world.MustPlan();
  for (const PartChoice& choice : plan.Choices()) {
    CHECK(choice.primitive == Primitive::kRoute);
    on_a += choice.holder == a ? 1 : 0;
  }
  CHECK(on_a == 2);
}

TEST_CASE("a deadline forbids the long setup that would be cheaper in the end") {
  TestWorld world;
  world.AddPart({world.AddHolder(16)});
  world.steps = 100000;
  Plan plan = world.MustPlan();
  CHECK(plan.reason == PlanReason::kCheapest);
  world.deadline_us = plan.cost.first_step_us - 1;
  plan = world.MustPlan();
  CHECK(plan.choices[0].primitive == Primitive::kRoute);
  CHECK(plan.reason == PlanReason::kCheapestInTime);
  CHECK(plan.meets_deadline);
  world.deadline_us = 1;
  plan = world.MustPlan();
  CHECK_FALSE(plan.meets_deadline);
  CHECK(plan.reason == PlanReason::kSoonest);
}

TEST_CASE("constants that wander by less than the margin change no plan") {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    TestWorld world = DrawWorld(seed, 1 + seed % 8, seed % 2 == 0);
    world.deadline_us = 0;
    const TestWorld still = world;
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> noise(0.97, 1.03);
    Plan plan = world.MustPlan();
    int kept = 0;
    for (int i = 0; i < 50; ++i) {
      for (size_t h = 0; h < world.holders.size(); ++h) {
        world.holders[h].pair.probe_us.value = noise(random) * still.holders[h].pair.probe_us.value;
        world.holders[h].pair.in_bytes_per_us.value =
            noise(random) * still.holders[h].pair.in_bytes_per_us.value;
        world.holders[h].pair.handshake_us.value =
            noise(random) * still.holders[h].pair.handshake_us.value;
      }
      const Plan next = world.MustPlan(&plan);
      REQUIRE(std::equal(next.Choices().begin(), next.Choices().end(), plan.Choices().begin(),
                         [](const PartChoice& a, const PartChoice& b) {
                           return a.holder_id == b.holder_id && a.primitive == b.primitive;
                         }));
      kept += next.reason == PlanReason::kKept ? 1 : 0;
      plan = next;
    }
  }
}

TEST_CASE("a plan that is better by the margin replaces the previous one, one below does not") {
  TestWorld world;
  const uint8_t a = world.AddHolder(100);
  const uint8_t b = world.AddHolder(101);
  world.AddPart({a, b});
  world.steps = 1;
  const Plan before = world.MustPlan();
  REQUIRE(before.choices[0].holder == a);
  world.holders[a].pair.probe_us.value = 105;
  CHECK(world.MustPlan().choices[0].holder == b);
  const Plan kept = world.MustPlan(&before);
  CHECK(kept.choices[0].holder == a);
  CHECK(kept.reason == PlanReason::kKept);
  CHECK(world.MustPlan(&before, {.keep_margin = 0}).choices[0].holder == b);
  world.holders[a].pair.probe_us.value = 150;
  CHECK(world.MustPlan(&kept).choices[0].holder == b);
}

TEST_CASE("where to fetch from is kept as well") {
  TestWorld world;
  const uint8_t a = world.AddHolder(16, 20000);
  const uint8_t b = world.AddHolder(16, 19900);
  world.AddPart({a, b});
  world.steps = 100000;
  const Plan before = world.MustPlan();
  REQUIRE(before.choices[0].primitive == Primitive::kFetch);
  REQUIRE(before.choices[0].holder == a);
  world.holders[b].pair.in_bytes_per_us.value = 20500;
  CHECK(world.MustPlan().choices[0].holder == b);
  CHECK(world.MustPlan(&before).choices[0].holder == a);
  world.holders[b].pair.in_bytes_per_us.value = 40000;
  CHECK(world.MustPlan(&before).choices[0].holder == b);
}

TEST_CASE("a previous plan that cannot be carried out is not kept") {
  TestWorld world;
  const uint8_t a = world.AddHolder(100);
  const uint8_t b = world.AddHolder(101);
  world.AddPart({a, b});
  world.steps = 1;
  const Plan before = world.MustPlan();
  world.parts[0].replicas = {b};  // a is no longer in sync
  world.parts[0].replica_count = 1;
  CHECK(world.MustPlan(&before).choices[0].holder == b);

  TestWorld fetched;
  fetched.AddPart({fetched.AddHolder(16)});
  fetched.steps = 100000;
  const Plan fetch = fetched.MustPlan();
  REQUIRE(fetch.choices[0].primitive == Primitive::kFetch);
  fetched.free_cache_bytes = 0;
  CHECK(fetched.MustPlan(&fetch).choices[0].primitive == Primitive::kRoute);
  // Parts that came or went do not spoil the rest.
  TestWorld more = world;
  more.AddPart({more.AddHolder(16)});
  CHECK(more.MustPlan(&before).parts == 2);
}

TEST_CASE("nobody measured anything: still a plan, with finite prices") {
  TestWorld world;
  world.AddPart({world.AddHolder(16)});
  const NodeConstants nothing;
  world.holders[0] = {.id = 1, .node = &nothing};
  world.requester = {};
  const Plan plan = world.MustPlan();
  CHECK(plan.cost.total_us > 0);
  CHECK(plan.cost.total_us < std::numeric_limits<double>::infinity());
}

TEST_CASE("a holder that nobody measured does not win over one that is") {
  TestWorld world;
  const uint8_t known = world.AddHolder(16);
  const uint8_t unknown = world.AddHolder(1);
  world.holders[unknown].pair = {};
  world.AddPart({unknown, known});
  world.steps = 1;
  CHECK(world.MustPlan().choices[0].holder == known);
}

TEST_CASE("a request that is none is refused, and what is wrong is named") {
  TestWorld world;
  world.layout.rope = {.yarn_factor = 40, .original_context = 4096};
  world.AddPart({world.AddHolder(16)});
  const auto message = [](const TestWorld& bad, absl::StatusCode code) {
    Plan plan;
    const absl::Status status = bad.TryPlan(plan);
    CHECK(status.code() == code);
    return std::string(status.message());
  };
  const auto refuse = [&](auto change, absl::StatusCode code, const char* words) {
    TestWorld bad = world;
    change(bad);
    const std::string text = message(bad, code);
    INFO(text);
    CHECK(text.find(words) != std::string::npos);
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  refuse([](TestWorld& w) { w.rows = 0; }, kInvalid, "rows 0");
  refuse([](TestWorld& w) { w.rows = uint64_t{1} << 40; }, kInvalid, "rows");
  refuse([](TestWorld& w) { w.steps = 0; }, kInvalid, "steps 0");
  refuse([](TestWorld& w) { w.layout.layers = 0; }, kInvalid, "0 layers");
  refuse([](TestWorld& w) { w.layout.layers = 1u << 31; }, kInvalid, "pages of more");
  refuse([](TestWorld& w) { w.parts.clear(); }, kInvalid, "parts 0");
  refuse([](TestWorld& w) { w.parts.resize(65, w.parts[0]); }, kInvalid, "parts 65");
  refuse([](TestWorld& w) { w.parts[0].tokens = 0; }, kInvalid, "part 5: tokens 0");
  refuse([](TestWorld& w) { w.parts[0].chunks = 0; }, kInvalid, "0 chunks");
  refuse([](TestWorld& w) { w.parts[0].replicas[0] = 9; }, kInvalid, "holder 9 of 1");
  refuse([](TestWorld& w) { w.parts[0].replica_count = 9; }, kInvalid, "9 replicas");
  refuse([](TestWorld& w) { w.deadline_us = -1; }, kInvalid, "deadline");
  refuse([](TestWorld& w) { w.deadline_us = std::numeric_limits<double>::quiet_NaN(); }, kInvalid,
         "deadline");
  refuse([](TestWorld& w) { w.holders[0].node = nullptr; }, kInvalid, "has no node");
  const auto no_rope = [](TestWorld& w) {
    w.layout.rope_width = 0;
    w.parts[0].position_shift = 3;
  };
  refuse(no_rope, absl::StatusCode::kFailedPrecondition, "part 5: ");
  for (const int64_t shift : {int64_t{163840}, int64_t{-163840}, INT64_MIN, INT64_MAX})
    refuse([=](TestWorld& w) { w.parts[0].position_shift = shift; }, absl::StatusCode::kOutOfRange,
           "the model has 163840");
  refuse([](TestWorld& w) { w.parts[0].replica_count = 0; }, absl::StatusCode::kFailedPrecondition,
         "no replica in sync");
  const auto no_room = [](TestWorld& w) {
    w.parts[0].replica_count = 0;
    w.parts[0].may_recompute = true;
    w.free_cache_bytes = 1000;
  };
  refuse(no_room, absl::StatusCode::kResourceExhausted, "which has 1000 free");
  world.parts[0].position_shift = -163839;
  world.MustPlan();
}

}  // namespace
}  // namespace latentd
