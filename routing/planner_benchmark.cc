// What a decision costs:
//     bazel run --config=release //routing:planner_benchmark
// Arguments: parts, replicas of each. Without a replica in common every part has its own holder;
// two replicas are on a ring of as many holders as parts, so that all of them are shared.
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include "routing/planner.h"

namespace latentd {
namespace {

NodeConstants MakeNode(float factor) {
  std::vector<uint32_t> rows;
  std::vector<uint32_t> tokens;
  for (uint32_t r = 1; r <= 2048; r *= 2) rows.push_back(r);
  for (uint32_t t = 64; t <= 131072; t *= 2) tokens.push_back(t);
  std::vector<float> us;
  for (const uint32_t r : rows)
    for (const uint32_t t : tokens)
      us.push_back(factor * (12 + 4e-6F * static_cast<float>(r) * static_cast<float>(t)));
  NodeConstants node;
  for (const ComputeRegime regime : {ComputeRegime::kLatency, ComputeRegime::kThroughput})
    node.Compute(RecordFormat::kBf16, regime) = {ConstantState::kMeasured,
                                                 ComputeTable::Make(rows, tokens, us).value()};
  return node;
}

struct World {
  Layout layout{.model = "deepseek-v2-lite", .layers = 27};
  std::vector<NodeConstants> nodes;
  std::vector<PlanHolder> holders;
  std::vector<PlanPart> parts;
  RequesterConstants requester;
  PlanRequest request;

  World(uint8_t count, uint8_t replicas) {
    for (uint8_t i = 0; i < count; ++i) nodes.push_back(MakeNode(1 + 0.05F * i));
    for (uint8_t i = 0; i < count; ++i) {
      PlanHolder holder{.id = i + 1U, .node = &nodes[i]};
      holder.pair.probe_us = {16.0 + i, ConstantState::kMeasured};
      holder.pair.out_bytes_per_us = {25000, ConstantState::kMeasured};
      holder.pair.in_bytes_per_us = {25000, ConstantState::kMeasured};
      holder.pair.handshake_us = {50, ConstantState::kMeasured};
      holder.pair.range_us = {1, ConstantState::kMeasured};
      holder.load.queue_us = {3.0 * (i % 4), ConstantState::kMeasured};
      holders.push_back(holder);
      PlanPart part{.id = i, .tokens = 2048U + 64U * i, .replica_count = replicas};
      for (uint8_t r = 0; r < replicas; ++r)
        part.replicas[r] = static_cast<uint8_t>((i + r) % count);
      parts.push_back(part);
    }
    requester.merge_us = {0.01, ConstantState::kMeasured};
    requester.splice_records_per_us = {1000, ConstantState::kMeasured};
    requester.copy_bytes_per_us = {10000, ConstantState::kMeasured};
    requester.node = nodes[0];
    request = {
        .layout = &layout, .rows = 128, .free_cache_bytes = uint64_t{16} << 30, .parts = parts};
  }
};

void Decide(benchmark::State& state, uint64_t steps) {
  World world(static_cast<uint8_t>(state.range(0)), static_cast<uint8_t>(state.range(1)));
  world.request.steps = steps;
  Plan plan;
  for (auto _ : state) {
    const absl::Status status =
        MakePlan(world.request, world.holders, world.requester, nullptr, {}, plan);
    if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
    benchmark::DoNotOptimize(plan);
  }
  int64_t routed = 0;
  for (const PartChoice& choice : plan.Choices())
    routed += choice.primitive == Primitive::kRoute ? 1 : 0;
  state.counters["routed"] = static_cast<double>(routed);
}

void OneStep(benchmark::State& state) { Decide(state, 1); }
// So many that merging a part's partials costs more than fetching it.
void ManySteps(benchmark::State& state) { Decide(state, 10000); }
BENCHMARK(OneStep)->Args({1, 1})->Args({4, 1})->Args({16, 1})->Args({4, 2})->Args({16, 2});
BENCHMARK(ManySteps)->Args({4, 1})->Args({16, 1})->Args({4, 2})->Args({16, 2});

// Every decision of a running request has one before it.
void NextDecision(benchmark::State& state) {
  World world(static_cast<uint8_t>(state.range(0)), static_cast<uint8_t>(state.range(1)));
  world.request.steps = 64;
  Plan before;
  Plan plan;
  for (auto _ : state) {
    const absl::Status status =
        MakePlan(world.request, world.holders, world.requester, &before, {}, plan);
    if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
    benchmark::DoNotOptimize(plan);
    before = plan;
  }
}
BENCHMARK(NextDecision)->Args({16, 1})->Args({16, 2});

}  // namespace
}  // namespace latentd

BENCHMARK_MAIN();
