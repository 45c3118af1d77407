// A requester, holders and parts drawn from a seed, for tests of the planner. One thread.
#ifndef LATENTD_ROUTING_PLANNER_TEST_UTIL_H_
#define LATENTD_ROUTING_PLANNER_TEST_UTIL_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "routing/cost_model.h"
#include "routing/planner.h"

namespace latentd {

template <ConstantKind Kind>
void SetMeasured(Constant<Kind>& constant, double value) {
  constant = MeasuredConstant<Kind>(value);
}

// 12 µs and what rows and tokens add, times `factor`.
inline NodeConstants MakeTestNode(double factor) {
  const std::vector<uint32_t> rows = {1, 16, 128, 1024};
  const std::vector<uint32_t> tokens = {64, 2048, 16384};
  std::vector<float> us;
  for (const uint32_t r : rows)
    for (const uint32_t t : tokens)
      us.push_back(static_cast<float>(factor * (12 + 4e-6 * r * t + 4e-4 * t)));
  NodeConstants node;
  CHECK(
      SetTable("test", RecordFormat::kBf16, ComputeRegime::kLatency, rows, tokens, us, node).ok());
  return node;
}

struct TestWorld {
  Layout layout{.model = "test", .layers = 27};
  std::deque<NodeConstants> nodes;  // addresses stay
  std::vector<PlanHolder> holders;
  std::vector<PlanPart> parts;
  RequesterConstants requester;
  uint64_t rows = 128;
  uint64_t steps = 10;
  uint64_t free_cache_bytes = uint64_t{1} << 40;
  double deadline_us = 0;
  uint64_t resident_tokens = 0;

  TestWorld() {
    SetMeasured(requester.merge_us, 0.01);
    SetMeasured(requester.splice_records_per_us, 1000);
    SetMeasured(requester.copy_bytes_per_us, 10000);
    SetMeasured(requester.prefill_us_per_token, 50);
    requester.node = MakeTestNode(1);
  }

  uint8_t AddHolder(double probe_us, double bandwidth = 25000, double compute_factor = 1) {
    nodes.push_back(MakeTestNode(compute_factor));
    PlanHolder holder{.id = 1000 - holders.size(), .node = &nodes.back()};
    SetMeasured(holder.pair.probe_us, probe_us);
    SetMeasured(holder.pair.out_bytes_per_us, bandwidth);
    SetMeasured(holder.pair.in_bytes_per_us, bandwidth);
    SetMeasured(holder.pair.handshake_us, 50);
    SetMeasured(holder.pair.range_us, 1);
    SetMeasured(holder.load.queue_us, 0);
    holders.push_back(holder);
    return static_cast<uint8_t>(holders.size() - 1);
  }

  PlanPart& AddPart(std::initializer_list<uint8_t> replicas, uint64_t tokens = 2048) {
    PlanPart part{.id = 77 * parts.size() + 5, .tokens = tokens};
    for (const uint8_t holder : replicas) part.replicas[part.replica_count++] = holder;
    parts.push_back(part);
    return parts.back();
  }

  PlanRequest Request() const {
    return {.layout = &layout,
            .rows = rows,
            .steps = steps,
            .free_cache_bytes = free_cache_bytes,
            .resident_tokens = resident_tokens,
            .deadline_us = deadline_us,
            .parts = parts};
  }
  absl::Status TryPlan(Plan& plan, const Plan* previous = nullptr,
                       PlannerOptions options = {}) const {
    return MakePlan(Request(), holders, requester, previous, options, plan);
  }
  Plan MustPlan(const Plan* previous = nullptr, PlannerOptions options = {}) const {
    Plan plan;
    const absl::Status status = TryPlan(plan, previous, options);
    INFO(status.ToString());
    REQUIRE(status.ok());
    return plan;
  }
};

// Prices within two orders of magnitude, so that every primitive wins now and then. `shared`:
// parts draw up to three replicas from all holders; else every part has holders of its own.
inline TestWorld DrawWorld(uint32_t seed, size_t parts, bool shared) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> share(0, 1);
  const auto log_uniform = [&](double least, double most) {
    return least * std::exp(std::log(most / least) * share(random));
  };
  TestWorld world;
  world.rows = static_cast<uint64_t>(log_uniform(1, 3000));
  world.steps = static_cast<uint64_t>(log_uniform(1, 3000));
  if (random() % 3 == 0) world.free_cache_bytes = static_cast<uint64_t>(log_uniform(1e8, 2e9));
  if (random() % 3 == 0) world.resident_tokens = random() % 10000;
  if (random() % 3 == 0) world.deadline_us = log_uniform(1e3, 1e6);
  SetMeasured(world.requester.merge_us, log_uniform(1e-4, 0.1));
  SetMeasured(world.requester.prefill_us_per_token, log_uniform(1, 300));
  world.requester.node = MakeTestNode(log_uniform(0.3, 30));
  const auto add_holder = [&] {
    const uint8_t holder =
        world.AddHolder(log_uniform(2, 300), log_uniform(500, 50000), log_uniform(0.3, 10));
    SetMeasured(world.holders[holder].pair.handshake_us, log_uniform(10, 3000));
    if (random() % 3 == 0) SetMeasured(world.holders[holder].load.queue_us, log_uniform(1, 1000));
    return holder;
  };
  const size_t pool = shared ? 2 + random() % 3 : 0;
  for (size_t i = 0; i < pool; ++i) add_holder();
  for (size_t i = 0; i < parts; ++i) {
    PlanPart& part = world.AddPart({}, 1 + static_cast<uint64_t>(log_uniform(64, 30000)));
    const size_t replicas = shared ? 1 + random() % std::min<size_t>(pool, 3) : 1 + random() % 2;
    for (size_t r = 0; r < replicas; ++r)
      part.replicas[part.replica_count++] =
          shared ? static_cast<uint8_t>((random() % pool + r) % pool) : add_holder();
    if (shared) {  // no replica twice
      std::sort(part.replicas.begin(), part.replicas.begin() + part.replica_count);
      part.replica_count = static_cast<uint8_t>(
          std::unique(part.replicas.begin(), part.replicas.begin() + part.replica_count) -
          part.replicas.begin());
    }
    part.may_fetch = random() % 6 != 0;
    part.may_recompute = random() % 2 == 0;
    part.chunks = 1 + random() % 3;
    if (random() % 4 == 0) part.position_shift = static_cast<int64_t>(random() % 1000) - 500;
  }
  return world;
}

}  // namespace latentd

#endif  // LATENTD_ROUTING_PLANNER_TEST_UTIL_H_
