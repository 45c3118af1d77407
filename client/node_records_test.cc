#include "client/node_records.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

std::shared_ptr<const RoutingTable> TableOf(const NodeId& node) {
  auto table = RoutingTable::Create(
      {.epoch = Epoch{1},
       .nodes = {{.id = node, .control_address = "127.0.0.1:1", .capacity_bytes = 1}},
       .ranges = {{.first_slot = 0, .slots = kSlotCount, .holders = {0}}}});
  REQUIRE(table.ok());
  return *table;
}

TEST_CASE("a node that was never asked is nothing to hold against it") {
  NodeRecords records({});
  CHECK(records.Find("a") == nullptr);
  CHECK(records.Report(0).empty());
  CHECK(records.At("a").Allows(0));
  CHECK(records.Find("a")->FindLane(0) == nullptr);
}

TEST_CASE("a node is left alone while its breaker is open, and for as long as it asked to be") {
  NodeRecords records({.failures = 1});
  NodeRecord& record = records.At("a");
  record.avoid_until_ns = 100;
  CHECK_FALSE(record.Allows(99));
  CHECK(record.Allows(100));
  record.breaker.OnFailure(100, 100, 0);
  CHECK_FALSE(record.Allows(100));
}

TEST_CASE("nodes that left the table are forgotten once nothing is under way there") {
  NodeRecords records({});
  records.At("a");
  records.At("b").lane(1).load.OnSent();
  records.At("c").lane(0).load.OnSent();
  records.Keep(*TableOf("c"));
  CHECK(records.Find("a") == nullptr);
  CHECK(records.Find("c") != nullptr);
  REQUIRE(records.Find("b") != nullptr);
  records.At("b").lane(1).load.OnSettled();
  records.Keep(*TableOf("c"));
  CHECK(records.Find("b") == nullptr);
}

TEST_CASE("a report tells of each node and lane what is known") {
  NodeRecords records({.failures = 1});
  records.At("b").breaker.OnFailure(1, 1, 0);
  LaneRecord& lane = records.At("a").lane(1);
  lane.load.OnSent();
  lane.load.OnReport(5'000, 10);
  for (int i = 0; i < 100; ++i) lane.latency.Add(40'000);
  const std::vector<NodeHealth> report = records.Report(10);
  REQUIRE(report.size() == 2);
  CHECK(report[0].node == "a");
  CHECK(report[0].breaker == BreakerState::kClosed);
  REQUIRE(report[0].lanes.size() == 2);
  CHECK(report[0].lanes[0].latency_p50 == absl::ZeroDuration());
  CHECK(report[0].lanes[1].in_flight == 1);
  CHECK(report[0].lanes[1].expected == absl::Microseconds(5));
  CHECK(report[0].lanes[1].latency_p95 >= absl::Microseconds(40));
  CHECK(report[1].breaker == BreakerState::kOpen);
  CHECK(report[1].times_opened == 1);
}

}  // namespace
}  // namespace latentd
