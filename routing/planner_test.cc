#include "routing/planner.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "routing/plan_check.h"
#include "routing/planner_test_util.h"

namespace latentd {
namespace {

// A part's choice by the brute force: a replica and whether its records are fetched, or neither.
struct Option {
  Primitive primitive;
  uint8_t holder;
};

std::vector<Option> OptionsOf(const PlanPart& part) {
  std::vector<Option> options;
  for (size_t r = 0; r < part.replica_count; ++r) {
    options.push_back({Primitive::kRoute, part.replicas[r]});
    if (part.may_fetch) options.push_back({Primitive::kFetch, part.replicas[r]});
  }
  if (part.may_recompute) options.push_back({Primitive::kLocal, 0});
  return options;
}

uint64_t CacheBytes(const TestWorld& world, const PlanPart& part) {
  return (part.tokens + 63 * part.chunks) / 64 * world.layout.page_bytes();
}

// plan.h's PlanCost, straight from the formulas.
PlanCost CostOf(const TestWorld& world, const std::vector<Option>& options) {
  PlanCost cost;
  std::map<uint8_t, std::pair<double, double>> routed;  // holder → tokens, chunks
  double held_tokens = static_cast<double>(world.resident_tokens);
  for (size_t i = 0; i < options.size(); ++i) {
    const PlanPart& part = world.parts[i];
    if (options[i].primitive == Primitive::kRoute) {
      routed[options[i].holder].first += static_cast<double>(part.tokens);
      routed[options[i].holder].second += part.chunks;
      continue;
    }
    held_tokens += static_cast<double>(part.tokens);
    if (options[i].primitive == Primitive::kLocal) {
      cost.setup_us += PricePrefillUs(world.requester, part.tokens);
    } else {
      cost.setup_us += PriceFetch(world.holders[options[i].holder].pair, world.requester,
                                  {.tokens = part.tokens,
                                   .layers = world.layout.layers,
                                   .record_bytes = world.layout.record_bytes(),
                                   .ranges = part.ranges,
                                   .shifted = part.position_shift != 0})
                           .TotalUs();
    }
  }
  const double rows = static_cast<double>(world.rows);
  double slowest = 0;
  if (held_tokens > 0) {
    slowest = ComputePricer(world.requester.node, RecordFormat::kBf16, rows, 0).Us(held_tokens);
  }
  for (const auto& [holder, what] : routed) {
    RoutePricer pricer;
    pricer.Reset(*world.holders[holder].node, world.holders[holder].pair,
                 world.holders[holder].load, world.requester.merge_us.Usable(),
                 world.layout.geometry(), RecordFormat::kBf16, rows);
    slowest = std::max(slowest, pricer.RoundTripUs(what.first, what.second));
  }
  const double partials =
      routed.empty() ? 0 : static_cast<double>(routed.size()) + (held_tokens > 0 ? 1 : 0);
  cost.layer_us = slowest + world.requester.merge_us.Usable() * rows * partials;
  cost.first_step_us = cost.setup_us + world.layout.layers * cost.layer_us;
  cost.total_us =
      cost.setup_us + static_cast<double>(world.steps) * world.layout.layers * cost.layer_us;
  return cost;
}

double LateUs(const TestWorld& world, const PlanCost& cost) {
  return world.deadline_us > 0 ? std::max(0.0, cost.first_step_us - world.deadline_us) : 0;
}

// The best of all assignments; nothing if none fits.
std::optional<PlanCost> BruteForce(const TestWorld& world) {
  std::optional<PlanCost> best;
  std::vector<Option> chosen(world.parts.size());
  const auto descend = [&](const auto& self, size_t part, uint64_t bytes) -> void {
    if (part == world.parts.size()) {
      const PlanCost cost = CostOf(world, chosen);
      const double late = LateUs(world, cost);
      if (!best || late < LateUs(world, *best) ||
          (late == LateUs(world, *best) && cost.total_us < best->total_us)) {
        best = cost;
      }
      return;
    }
    for (const Option& option : OptionsOf(world.parts[part])) {
      const uint64_t more =
          option.primitive == Primitive::kRoute ? 0 : CacheBytes(world, world.parts[part]);
      if (bytes + more > world.free_cache_bytes) continue;
      chosen[part] = option;
      self(self, part + 1, bytes + more);
    }
  };
  descend(descend, 0, 0);
  return best;
}

std::vector<Option> OptionsIn(const Plan& plan) {
  std::vector<Option> options;
  for (const PartChoice& choice : plan.Choices())
    options.push_back({choice.primitive, choice.holder});
  return options;
}

// What must hold of any plan, whatever it was made from.
void CheckPlan(const TestWorld& world, const Plan& plan) {
  REQUIRE(plan.parts == world.parts.size());
  uint64_t bytes = 0;
  for (size_t i = 0; i < plan.parts; ++i) {
    const PartChoice& choice = plan.choices[i];
    const PlanPart& part = world.parts[i];
    CHECK(choice.part_id == part.id);
    if (choice.primitive != Primitive::kRoute) bytes += CacheBytes(world, part);
    if (choice.primitive == Primitive::kFetch) CHECK(part.may_fetch);
    if (choice.primitive == Primitive::kLocal) {
      CHECK(part.may_recompute);
    } else {
      CHECK(std::count(part.replicas.begin(), part.replicas.begin() + part.replica_count,
                       choice.holder) == 1);
      CHECK(choice.holder_id == world.holders[choice.holder].id);
    }
  }
  CHECK(bytes == plan.cache_bytes);
  CHECK(bytes <= world.free_cache_bytes);
  const PlanCost cost = CostOf(world, OptionsIn(plan));
  CHECK(plan.cost.setup_us == Approx(cost.setup_us).margin(1e-6));
  CHECK(plan.cost.layer_us == Approx(cost.layer_us));
  CHECK(plan.cost.first_step_us == Approx(cost.first_step_us));
  CHECK(plan.cost.total_us == Approx(cost.total_us));
}

// How much worse than the best the plan is; 0 is as good, and late counts before total.
double Excess(const TestWorld& world, const Plan& plan, const PlanCost& best) {
  const double late = LateUs(world, plan.cost);
  const double best_late = LateUs(world, best);
  if (late > best_late + 1e-6 * best.first_step_us)
    return plan.cost.first_step_us / best.first_step_us - 1;
  return plan.cost.total_us / best.total_us - 1;
}

TEST_CASE("parts with holders of their own: the plan is the best of all assignments") {
  std::map<Primitive, int> seen;
  int late = 0;
  for (uint32_t seed = 1; seed <= 400; ++seed) {
    INFO("seed " << seed);
    const TestWorld world = DrawWorld(seed, 1 + seed % 4, false);
    const Plan plan = world.MustPlan();
    CheckPlan(world, plan);
    CHECK(Excess(world, plan, BruteForce(world).value()) < 1e-9);
    for (const PartChoice& choice : plan.Choices()) ++seen[choice.primitive];
    if (!plan.meets_deadline) ++late;
  }
  CHECK(seen[Primitive::kRoute] > 50);
  CHECK(seen[Primitive::kFetch] > 50);
  CHECK(seen[Primitive::kLocal] > 50);
  CHECK(late > 5);
}

TEST_CASE("few plans to try: the plan is the best, also where parts share holders") {
  for (uint32_t seed = 1; seed <= 400; ++seed) {
    INFO("seed " << seed);
    const TestWorld world = DrawWorld(seed, 1 + seed % 3, true);  // at most 4 options of each
    const Plan plan = world.MustPlan();
    CheckPlan(world, plan);
    CHECK(Excess(world, plan, BruteForce(world).value()) < 1e-9);
  }
}

TEST_CASE("many plans to try and shared holders: the plan is close to the best") {
  double sum = 0;
  double worst = 0;
  int best = 0;
  constexpr int kWorlds = 150;
  for (uint32_t seed = 1; seed <= kWorlds; ++seed) {
    INFO("seed " << seed);
    const TestWorld world = DrawWorld(seed, 5, true);
    const Plan plan = world.MustPlan();
    CheckPlan(world, plan);
    const double excess = Excess(world, plan, BruteForce(world).value());
    sum += excess;
    worst = std::max(worst, excess);
    if (excess < 1e-9) ++best;
  }
  INFO("excess over brute force: mean " << sum / kWorlds << ", worst " << worst << ", best in "
                                        << best << " of " << kWorlds);
  CHECK(sum / kWorlds < 0.002);
  CHECK(worst < 0.05);
  CHECK(best > kWorlds * 95 / 100);
}

TEST_CASE("a total does not fall with rows, tokens, steps or queue, nor rise with bandwidth") {
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    INFO("seed " << seed);
    TestWorld world = DrawWorld(seed, 1 + seed % 3, seed % 2 == 0);
    world.deadline_us = 0;  // it makes a dearer plan the better one
    std::mt19937 random(seed);
    const double total = world.MustPlan().cost.total_us;
    const auto check = [&](const char* what, auto change, bool dearer) {
      INFO(what);
      TestWorld changed = world;
      change(changed);
      const double after = changed.MustPlan().cost.total_us;
      if (dearer) CHECK(after >= total * (1 - 1e-12));
      if (!dearer) CHECK(after <= total * (1 + 1e-12));
    };
    const size_t holder = random() % world.holders.size();
    const size_t part = random() % world.parts.size();
    check(
        "rows", [](TestWorld& w) { w.rows += 100; }, true);
    check(
        "steps", [](TestWorld& w) { w.steps += 1; }, true);
    check(
        "tokens", [&](TestWorld& w) { w.parts[part].tokens += 500; }, true);
    check(
        "queue", [&](TestWorld& w) { w.holders[holder].load.queue_us.value += 50; }, true);
    check(
        "room", [](TestWorld& w) { w.free_cache_bytes *= 2; }, false);
    const auto faster = [&](TestWorld& w) {
      w.holders[holder].pair.in_bytes_per_us.value *= 2;
      w.holders[holder].pair.out_bytes_per_us.value *= 2;
    };
    check("bandwidth", faster, false);
  }
}

TEST_CASE("everything twice as slow is the same plan at twice the price") {
  for (uint32_t seed = 1; seed <= 100; ++seed) {
    INFO("seed " << seed);
    TestWorld world = DrawWorld(seed, 1 + seed % 6, seed % 2 == 0);
    world.deadline_us = 0;
    const Plan plan = world.MustPlan();
    TestWorld slow = world;
    std::deque<NodeConstants> nodes;
    const auto slow_node = [](const NodeConstants& node) {
      NodeConstants twice;
      const ComputeTable& table = node.Compute(RecordFormat::kBf16, ComputeRegime::kLatency).table;
      std::vector<float> us;
      for (size_t r = 0; r < table.rows().size(); ++r)
        for (size_t t = 0; t < table.tokens().size(); ++t) us.push_back(2 * table.us(r, t));
      CHECK(SetTable("twice", RecordFormat::kBf16, ComputeRegime::kLatency, table.rows(),
                     table.tokens(), us, twice)
                .ok());
      return twice;
    };
    for (PlanHolder& holder : slow.holders) {
      nodes.push_back(slow_node(*holder.node));
      holder.node = &nodes.back();
      holder.pair.probe_us.value *= 2;
      holder.pair.handshake_us.value *= 2;
      holder.pair.range_us.value *= 2;
      holder.pair.in_bytes_per_us.value /= 2;
      holder.pair.out_bytes_per_us.value /= 2;
      holder.load.queue_us.value *= 2;
    }
    slow.requester.node = slow_node(world.requester.node);
    slow.requester.merge_us.value *= 2;
    slow.requester.prefill_us_per_token.value *= 2;
    slow.requester.copy_bytes_per_us.value /= 2;
    slow.requester.splice_records_per_us.value /= 2;
    CHECK(slow.MustPlan().cost.total_us == Approx(2 * plan.cost.total_us));
  }
}

TEST_CASE("the order of holders, parts and replicas is nothing to the plan") {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    INFO("seed " << seed);
    TestWorld world = DrawWorld(seed, 1 + seed % 12, seed % 2 == 0);
    if (seed % 5 == 0)  // ties
      for (PlanHolder& holder : world.holders) {
        holder.pair = world.holders[0].pair;
        holder.load = world.holders[0].load;
        holder.node = world.holders[0].node;
      }
    const Plan plan = world.MustPlan();
    std::mt19937 random(seed);
    std::vector<uint8_t> place(world.holders.size());  // old index → new one
    std::iota(place.begin(), place.end(), uint8_t{0});
    std::shuffle(place.begin(), place.end(), random);
    std::vector<PlanHolder> holders(world.holders.size());
    for (size_t i = 0; i < place.size(); ++i) holders[place[i]] = world.holders[i];
    world.holders = holders;
    for (PlanPart& part : world.parts) {
      const auto end = part.replicas.begin() + part.replica_count;
      for (auto it = part.replicas.begin(); it != end; ++it) *it = place[*it];
      std::shuffle(part.replicas.begin(), end, random);
    }
    std::shuffle(world.parts.begin(), world.parts.end(), random);
    const Plan other = world.MustPlan();
    CHECK(other.cost.total_us == plan.cost.total_us);
    std::map<uint64_t, std::pair<Primitive, uint64_t>> by_part;
    for (const PartChoice& choice : plan.Choices())
      by_part[choice.part_id] = {choice.primitive, choice.holder_id};
    for (const PartChoice& choice : other.Choices())
      CHECK(by_part[choice.part_id] == std::pair{choice.primitive, choice.holder_id});
  }
}

}  // namespace
}  // namespace latentd
