#include "client/cost_view.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

namespace latentd {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

NodeConstants Compute(float us) {
  NodeConstants node;
  CHECK(SetTable("test", RecordFormat::kBf16, ComputeRegime::kLatency, std::vector<uint32_t>{1},
                 std::vector<uint32_t>{64}, std::vector<float>{us}, node)
            .ok());
  return node;
}

ConstantState ComputeState(const PlanHolder& holder) {
  return holder.node->Compute(RecordFormat::kBf16, ComputeRegime::kLatency).state;
}

float ComputeUs(const PlanHolder& holder) {
  return holder.node->Compute(RecordFormat::kBf16, ComputeRegime::kLatency).table.us(0, 0);
}

PairConstants Link(double probe_us) {
  PairConstants pair;
  pair.probe_us = MeasuredConstant<ConstantKind::kProbe>(probe_us);
  pair.out_bytes_per_us = MeasuredConstant<ConstantKind::kBandwidth>(1000);
  return pair;
}

HolderTiming Timing(uint64_t queue_us) {
  HolderTiming timing;
  timing.node = "node-a";
  timing.queue_ns = queue_us * 1000;
  return timing;
}

std::shared_ptr<const RoutingTable> TableOf(const std::vector<NodeInfo>& nodes) {
  RoutingTableParts parts;
  parts.epoch = Epoch{1};
  parts.nodes = nodes;
  parts.ranges = {{.first_slot = 0, .slots = kSlotCount, .holders = {0}}};
  return RoutingTable::Create(parts).value();
}

TEST_CASE("a node that nobody measured is dear, not free, and so is its queue") {
  const CostView view(absl::Seconds(60));
  const PlanHolder holder = view.At("node-a", kNow);
  CHECK(holder.id == PlanIdOf("node-a"));
  CHECK(holder.id != PlanIdOf("node-b"));
  CHECK(ComputeState(holder) == ConstantState::kMissing);
  CHECK(holder.pair.probe_us.state == ConstantState::kMissing);
  CHECK(holder.load.queue_us.state == ConstantState::kMissing);
  CHECK(QueueUs(holder.load) > 0);
}

TEST_CASE("what was timed from here is used while it is new and is stale after that") {
  CostView view(absl::Seconds(60));
  view.SetLink("node-a", Link(16), Generation{7}, kNow);
  view.SetCompute("node-a", Compute(25), Generation{7}, kNow);
  const PlanHolder fresh = view.At("node-a", kNow + absl::Seconds(59));
  CHECK(fresh.pair.probe_us.Usable() == 16);
  CHECK(ComputeState(fresh) == ConstantState::kMeasured);
  const PlanHolder old = view.At("node-a", kNow + absl::Seconds(61));
  CHECK(old.pair.probe_us.Usable() == 16 * kStaleFactor);
  CHECK(ComputeState(old) == ConstantState::kStale);
}

TEST_CASE("a node's own table is taken unless one was timed from here since") {
  CostView view(absl::Seconds(60));
  NodeCosts costs;
  costs.node = "node-a";
  costs.measured = kNow + absl::Seconds(1000);  // a link of its
  costs.compute_measured = kNow;
  costs.compute = Compute(30);
  view.Take(costs);
  CHECK(ComputeUs(view.At("node-a", kNow)) == 30);
  view.SetCompute("node-a", Compute(25), Generation{0}, kNow + absl::Seconds(1));
  view.Take(costs);
  CHECK(ComputeUs(view.At("node-a", kNow)) == 25);
  costs.compute_measured = kNow + absl::Seconds(2);
  view.Take(costs);
  CHECK(ComputeUs(view.At("node-a", kNow)) == 30);
}

TEST_CASE("a restarted node's constants are stale, and those of a node that is gone forgotten") {
  CostView view(absl::Seconds(60));
  for (const char* node : {"node-a", "node-b"}) {
    view.SetLink(node, Link(16), Generation{7}, kNow);
    view.SetCompute(node, Compute(25), Generation{7}, kNow);
  }
  view.Follow(*TableOf({{.id = "node-a", .control_address = "a:1", .generation = Generation{7}}}));
  CHECK(view.At("node-a", kNow).pair.probe_us.state == ConstantState::kMeasured);
  CHECK(view.At("node-b", kNow).pair.probe_us.state == ConstantState::kMissing);
  view.Follow(*TableOf({{.id = "node-a", .control_address = "a:1", .generation = Generation{8}}}));
  CHECK(view.At("node-a", kNow).pair.probe_us.state == ConstantState::kStale);
  CHECK(ComputeState(view.At("node-a", kNow)) == ConstantState::kStale);
}

TEST_CASE("a queue is what answers say it is, and fades when none come") {
  CostView view(absl::Seconds(60));
  view.SetLink("node-a", Link(16), Generation{7}, kNow);
  for (int i = 0; i < 50; ++i) view.OnAnswer(Timing(800), kNow);
  CHECK(QueueUs(view.At("node-a", kNow).load) == Approx(800).epsilon(0.01));
  CHECK(QueueUs(view.At("node-a", kNow + absl::Milliseconds(500)).load) ==
        Approx(400).epsilon(0.01));
  CHECK(QueueUs(view.At("node-a", kNow + absl::Seconds(10)).load) < 1);
}

TEST_CASE("while a request's own rows arrive it does not wait for others") {
  CostView view(absl::Seconds(60));
  view.SetLink("node-a", Link(16), Generation{7}, kNow);
  HolderTiming timing = Timing(500);
  timing.bytes_sent = 500'000;  // at 1,000 bytes/us
  view.OnAnswer(timing, kNow);
  CHECK(QueueUs(view.At("node-a", kNow).load) == 0);
  timing.node = "node-b";  // over a link that nobody measured
  for (int i = 0; i < 50; ++i) view.OnAnswer(timing, kNow);
  CHECK(QueueUs(view.At("node-b", kNow).load) == Approx(500).epsilon(0.01));
}

TEST_CASE("a holder that refuses costs at least its hint until then, or until it answers") {
  CostView view(absl::Seconds(60));
  view.OnRefusal("node-a", absl::Milliseconds(20), kNow);
  CHECK(QueueUs(view.At("node-a", kNow).load) == 20'000);
  CHECK(view.At("node-a", kNow).load.saturated);
  CHECK_FALSE(view.At("node-a", kNow + absl::Milliseconds(21)).load.saturated);
  view.OnAnswer(Timing(0), kNow);
  CHECK_FALSE(view.At("node-a", kNow).load.saturated);
}

}  // namespace
}  // namespace latentd
