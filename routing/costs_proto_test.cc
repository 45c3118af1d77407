// What nodes say of their costs, through the control plane's message and back.
#include "routing/costs_proto.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

namespace latentd {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
constexpr Generation kLife{77};

ComputeTable Table(double factor = 1) {
  const std::vector<uint32_t> rows = {1, 64, 1024};
  const std::vector<uint32_t> tokens = {64, 4096};
  std::vector<float> us;
  for (const uint32_t r : rows) {
    for (const uint32_t t : tokens) us.push_back(static_cast<float>(factor * (10 + 0.001 * r * t)));
  }
  return *ComputeTable::Make(rows, tokens, us);
}

PeerLink Link() {
  PeerLink link{
      .peer = "node-b", .peer_generation = Generation{5}, .measured = kNow, .constants = {}};
  link.constants.probe_us = MeasuredConstant<ConstantKind::kProbe>(17);
  link.constants.out_bytes_per_us = MeasuredConstant<ConstantKind::kBandwidth>(9000);
  link.constants.in_bytes_per_us = MeasuredConstant<ConstantKind::kBandwidth>(8000);
  return link;
}

v1::NodeCosts Message() {
  v1::NodeCosts message;
  message.set_node_id("node-a");
  message.set_generation(ToInt(kLife));
  message.set_measured_unix_ms(absl::ToUnixMillis(kNow));
  message.set_period_ms(600'000);
  *message.add_compute() =
      ToProto(Table(), RecordFormat::kFp8, ComputeRegime::kThroughput, 0, kNow);
  *message.add_links() = ToProto(Link());
  return message;
}

bool Names(const NodeCostsReading& reading, const std::string& text) {
  for (const std::string& line : reading.quarantined) {
    if (line.find(text) != std::string::npos) return true;
  }
  return false;
}

TEST_CASE("costs survive the way through their message, and what nobody measured stays missing") {
  const NodeCostsReading reading = FromProto(Message(), kNow, kLife);
  CHECK(reading.quarantined.empty());
  CHECK(reading.costs.node == "node-a");
  CHECK(reading.costs.generation == kLife);
  CHECK(reading.costs.measured == kNow);
  const TimedTable& table =
      reading.costs.compute.Compute(RecordFormat::kFp8, ComputeRegime::kThroughput);
  CHECK(table.state == ConstantState::kMeasured);
  CHECK(table.table.UsAt(300, 700) == Table().UsAt(300, 700));
  CHECK(reading.costs.compute.Compute(RecordFormat::kFp8, ComputeRegime::kLatency).state ==
        ConstantState::kMissing);
  const PeerLink* link = reading.costs.LinkTo("node-b");
  REQUIRE(link != nullptr);
  CHECK(link->peer_generation == Generation{5});
  CHECK(link->constants.probe_us.Usable() == 17);
  CHECK(link->constants.in_bytes_per_us.Usable() == 8000);
  CHECK(link->constants.handshake_us.state == ConstantState::kMissing);
  CHECK(link->constants.handshake_us.Usable() > 0);
  CHECK(reading.costs.LinkTo("node-c") == nullptr);
}

TEST_CASE("a negative, absurd or infinite constant is quarantined and named, the rest is used") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double absurd : {-3.0, 0.0, 1e30, nan}) {
    v1::NodeCosts message = Message();
    message.mutable_links(0)->set_probe_us(absurd);
    const NodeCostsReading reading = FromProto(message, kNow, kLife);
    CHECK(Names(reading, "node-a to node-b: constant probe"));
    const PairConstants& pair = reading.costs.LinkTo("node-b")->constants;
    CHECK(pair.probe_us.state == ConstantState::kQuarantined);
    CHECK(pair.probe_us.Usable() == RuleOf(ConstantKind::kProbe).assumed);
    CHECK(pair.out_bytes_per_us.state == ConstantState::kMeasured);
  }
}

TEST_CASE("a table that makes no sense is quarantined and named") {
  for (int kind = 0; kind < 5; ++kind) {
    v1::NodeCosts message = Message();
    v1::ComputeCosts& compute = *message.mutable_compute(0);
    if (kind == 0) compute.set_us(1, -5);
    if (kind == 1) compute.mutable_us()->RemoveLast();
    if (kind == 2) compute.set_rows(2, 2);  // does not ascend
    if (kind == 3) compute.clear_tokens();
    if (kind == 4) compute.mutable_rows()->Resize(100'000, 7);
    const NodeCostsReading reading = FromProto(message, kNow, kLife);
    INFO(kind);
    CHECK(Names(reading, "node-a lane 0: fp8 throughput"));
    CHECK(reading.costs.compute.Compute(RecordFormat::kFp8, ComputeRegime::kThroughput).state ==
          ConstantState::kQuarantined);
  }
}

TEST_CASE("formats and regimes that this build does not know are left out") {
  v1::NodeCosts message = Message();
  message.mutable_compute(0)->set_record("fp4");
  *message.add_compute() = ToProto(Table(), RecordFormat::kBf16, ComputeRegime::kLatency, 0, kNow);
  message.mutable_compute(1)->set_regime(static_cast<v1::ComputeRegime>(9));
  const NodeCostsReading reading = FromProto(message, kNow, kLife);
  CHECK(reading.quarantined.empty());
  for (const auto& format : reading.costs.compute.compute) {
    for (const TimedTable& table : format) CHECK(table.state == ConstantState::kMissing);
  }
}

TEST_CASE("what is older than two periods, has no time or is of another life is stale") {
  const auto state = [](const v1::NodeCosts& message, absl::Time now, Generation life) {
    const NodeCostsReading reading = FromProto(message, now, life);
    const PairConstants& pair = reading.costs.LinkTo("node-b")->constants;
    const TimedTable& table =
        reading.costs.compute.Compute(RecordFormat::kFp8, ComputeRegime::kThroughput);
    CHECK(pair.probe_us.state == table.state);
    return table.state;
  };
  CHECK(state(Message(), kNow + absl::Minutes(19), kLife) == ConstantState::kMeasured);
  CHECK(state(Message(), kNow + absl::Minutes(21), kLife) == ConstantState::kStale);
  CHECK(state(Message(), kNow - absl::Minutes(21), kLife) == ConstantState::kStale);
  CHECK(state(Message(), kNow, Generation{78}) == ConstantState::kStale);
  CHECK(state(Message(), kNow, Generation{}) == ConstantState::kMeasured);
  v1::NodeCosts timeless = Message();
  timeless.mutable_compute(0)->clear_measured_unix_ms();
  timeless.mutable_links(0)->set_measured_unix_ms(std::numeric_limits<int64_t>::min());
  CHECK(state(timeless, kNow, kLife) == ConstantState::kStale);
  v1::NodeCosts for_ever = Message();
  for_ever.set_period_ms(std::numeric_limits<uint64_t>::max());
  CHECK(state(for_ever, kNow + absl::Hours(49), kLife) == ConstantState::kStale);
}

TEST_CASE("of several lanes the dearest counts, and one that nobody believes before all") {
  v1::NodeCosts message = Message();
  for (const uint32_t lane : {1u, 2u}) {
    *message.add_compute() = ToProto(Table(lane == 1 ? 3 : 2), RecordFormat::kFp8,
                                     ComputeRegime::kThroughput, lane, kNow);
  }
  const auto read = [&] {
    return FromProto(message, kNow, kLife)
        .costs.compute.Compute(RecordFormat::kFp8, ComputeRegime::kThroughput);
  };
  CHECK(read().table.UsAt(64, 4096) == Table(3).UsAt(64, 4096));
  message.mutable_compute(0)->set_us(0, -1);
  CHECK(read().state == ConstantState::kQuarantined);
}

TEST_CASE("more links than a cluster has nodes are not read") {
  v1::NodeCosts message = Message();
  for (int i = 0; i < kMaxLinkCosts; ++i) message.add_links()->set_peer("x");
  const NodeCostsReading reading = FromProto(message, kNow, kLife);
  CHECK(reading.costs.links.size() == kMaxLinkCosts);
  CHECK(Names(reading, "links"));
}

TEST_CASE("what is in quarantine or missing is not said on") {
  PeerLink link = Link();
  link.constants.probe_us.state = ConstantState::kQuarantined;
  const v1::LinkCosts message = ToProto(link);
  CHECK_FALSE(message.has_probe_us());
  CHECK_FALSE(message.has_range_us());
  CHECK(message.out_bytes_per_us() == 9000);
}

}  // namespace
}  // namespace latentd
