// What one node's coming costs a cluster of N, R = 2, 65,536 slots:
//     bazel run -c opt //routing:placement_benchmark
// Beside the time: slots moved for each that had to (moved/min), the largest load against its share,
// the change as it travels, and the whole table as it is stored.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "routing/balanced_holders.h"
#include "routing/fair_shares.h"
#include "routing/placement.h"
#include "routing/table_delta.h"
#include "routing/table_snapshot.h"

namespace latentd {
namespace {

constexpr uint32_t kReplicas = 2;

std::vector<NodeInfo> MakeNodes(int64_t count) {
  std::vector<NodeInfo> nodes;
  for (int64_t i = 0; i < count; ++i) {
    const std::string id = "node-" + std::to_string(i);
    nodes.push_back({.id = id,
                     .control_address = id + ".example:7400",
                     .generation = Generation{0x9E3779B97F4A7C15 * static_cast<uint64_t>(i + 1)},
                     .capacity_bytes = uint64_t{80} << 30});
  }
  return nodes;
}

std::shared_ptr<const RoutingTable> Next(std::shared_ptr<const RoutingTable> before,
                                         std::vector<NodeInfo> nodes) {
  return NextTable(std::move(before),
                   {.nodes = std::move(nodes), .replicas = kReplicas, .in_sync = {}})
      .value();
}

void FirstTable(benchmark::State& state) {
  const std::vector<NodeInfo> nodes = MakeNodes(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(Next(nullptr, nodes));
}
BENCHMARK(FirstTable)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

void HoldersAfterJoin(benchmark::State& state) {
  std::vector<NodeInfo> nodes = MakeNodes(state.range(0) + 1);
  const auto before = Next(nullptr, {nodes.begin(), nodes.end() - 1});
  for (auto _ : state) {
    benchmark::DoNotOptimize(BalanceHolders(before.get(), nodes, kReplicas).value());
  }
  const DesiredHolders after = BalanceHolders(before.get(), nodes, kReplicas).value();
  std::vector<uint32_t> load(nodes.size());
  std::vector<uint32_t> primaries(nodes.size());
  uint32_t moved = 0;
  for (uint32_t number = 0; number < kSlotCount; ++number) {
    const Slot slot{static_cast<uint16_t>(number)};
    for (const NodeIndex node : after.Of(slot)) {
      ++load[node];
      if (node + 1U == nodes.size() || !before->Holds(node, slot)) ++moved;
    }
    ++primaries[after.Of(slot).front()];
  }
  const double share =
      static_cast<double>(kSlotCount) * kReplicas / static_cast<double>(nodes.size());
  state.counters["moved/min"] = moved / share;
  state.counters["load/share"] = *std::max_element(load.begin(), load.end()) / share;
  state.counters["least/share"] = *std::min_element(load.begin(), load.end()) / share;
  state.counters["primaries/share"] =
      *std::max_element(primaries.begin(), primaries.end()) / (share / kReplicas);
}
BENCHMARK(HoldersAfterJoin)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

void TableAfterJoin(benchmark::State& state) {
  const std::vector<NodeInfo> nodes = MakeNodes(state.range(0) + 1);
  const auto before = Next(nullptr, {nodes.begin(), nodes.end() - 1});
  for (auto _ : state) benchmark::DoNotOptimize(Next(before, nodes));
  const auto after = Next(before, nodes);
  state.counters["delta_B"] =
      static_cast<double>(MakeDelta(*before, *after).value().ByteSizeLong());
  state.counters["snapshot_B"] = static_cast<double>(PackTable(*after).size());
}
BENCHMARK(TableAfterJoin)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

void TableAfterDeath(benchmark::State& state) {
  std::vector<NodeInfo> nodes = MakeNodes(state.range(0));
  const auto before = Next(nullptr, nodes);
  nodes.pop_back();
  for (auto _ : state) benchmark::DoNotOptimize(Next(before, nodes));
}
BENCHMARK(TableAfterDeath)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace latentd

BENCHMARK_MAIN();
