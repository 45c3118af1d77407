// Properties of routing/table_delta.h and routing/table_snapshot.h over random histories.
#include <random>
#include <string>

#include <catch2/catch.hpp>

#include "routing/placement.h"
#include "routing/table_delta.h"
#include "routing/table_proto.h"
#include "routing/table_snapshot.h"

namespace latentd {
namespace {

using TablePtr = std::shared_ptr<const RoutingTable>;

NodeInfo MakeNode(uint32_t number, uint64_t generation = 1) {
  const std::string id = "node-" + std::to_string(number);
  return {.id = id,
          .control_address = id + ".example:7400",
          .generation = Generation{generation},
          .capacity_bytes = uint64_t{80} << 30};
}

void CheckSame(const RoutingTable& a, const RoutingTable& b) { CHECK(a.ToParts() == b.ToParts()); }

// Nodes come, go, restart and catch up; survivors keep their order.
TablePtr NextOf(const TablePtr& previous, std::mt19937& random) {
  std::vector<NodeInfo> nodes;
  if (previous != nullptr) {
    for (const NodeInfo& node : previous->nodes()) {
      const uint32_t dice = random() % 10;
      if (dice == 0 && previous->nodes().size() > 2) continue;
      nodes.push_back(node);
      if (dice == 1) nodes.back().generation = Generation{random()};
      if (dice == 2) nodes.back().state = NodeState::kDraining;
      if (dice == 3) nodes.back().state = NodeState::kActive;
    }
  }
  while (nodes.size() < 3 || random() % 2 == 0) {
    nodes.push_back(MakeNode(random() % 1000000));
  }
  const uint32_t salt = random();
  const auto in_sync = [&](NodeIndex node, Slot slot, Epoch) {
    return (ToInt(slot) * 31U + node * 7U + salt) % 3 == 0;
  };
  return NextTable(previous, {nodes, 2, in_sync}).value();
}

TEST_CASE("a delta applied to the table before gives the table after, and a snapshot the same") {
  const auto seed = GENERATE(1U, 2U);
  CAPTURE(seed);
  std::mt19937 random(seed);
  TablePtr table = NextOf(nullptr, random);
  for (int step = 0; step < 6; ++step) {
    const TablePtr next = NextOf(table, random);
    const auto delta = MakeDelta(*table, *next);
    REQUIRE(delta.has_value());
    const auto applied = ApplyDelta(*table, *delta);
    REQUIRE(applied.ok());
    CheckSame(**applied, *next);
    const auto unpacked = UnpackTable(PackTable(*next));
    REQUIRE(unpacked.ok());
    CheckSame(**unpacked, *next);
    table = next;
  }
}

TEST_CASE("a delta across several epochs works as one") {
  std::mt19937 random(7);
  const TablePtr first = NextOf(nullptr, random);
  TablePtr last = first;
  for (int step = 0; step < 4; ++step) last = NextOf(last, random);
  CheckSame(*ApplyDelta(*first, MakeDelta(*first, *last).value()).value(), *last);
}

TEST_CASE("a delta of another table is refused") {
  std::mt19937 random(3);
  const TablePtr a = NextOf(nullptr, random);
  const TablePtr b = NextOf(a, random);
  const auto delta = MakeDelta(*a, *b).value();
  CHECK(ApplyDelta(*b, delta).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(FromProto(delta).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a delta that leaves a slot to a removed node is refused") {
  const TablePtr a = NextTable(nullptr, {{MakeNode(1), MakeNode(2)}, 1, {}}).value();
  v1::RoutingTable delta;
  delta.set_base_epoch(1);
  delta.set_epoch(2);
  delta.add_removed("node-1");
  CHECK(ApplyDelta(*a, delta).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a table whose nodes were put in another order has no delta") {
  const TablePtr a = NextTable(nullptr, {{MakeNode(1), MakeNode(2)}, 1, {}}).value();
  const TablePtr b = NextTable(a, {{MakeNode(2), MakeNode(1)}, 1, {}}).value();
  CHECK_FALSE(MakeDelta(*a, *b).has_value());
}

TEST_CASE("a damaged snapshot is refused or is another table, and never crashes") {
  std::mt19937 random(11);
  std::string packed = PackTable(*NextTable(nullptr, {{MakeNode(1), MakeNode(2)}, 2, {}}).value());
  for (int i = 0; i < 40; ++i) {
    std::string damaged = packed.substr(0, i % 2 == 0 ? packed.size() : random() % packed.size());
    if (!damaged.empty())
      damaged[random() % damaged.size()] ^= static_cast<char>(1U << random() % 8);
    (void)UnpackTable(damaged);
  }
}

TEST_CASE("a thousand nodes fit into what etcd takes at once, and one join into little") {
  std::vector<NodeInfo> nodes;
  for (uint32_t i = 0; i < 1000; ++i) nodes.push_back(MakeNode(i));
  const TablePtr before = NextTable(nullptr, {nodes, 2, {}}).value();
  nodes.push_back(MakeNode(1000));
  const TablePtr after = NextTable(before, {nodes, 2, {}}).value();
  const size_t snapshot = PackTable(*before).size();
  const size_t delta = MakeDelta(*before, *after).value().ByteSizeLong();
  WARN("snapshot " << snapshot << " B, delta of one join " << delta << " B");
  CHECK(snapshot < 1'000'000);
  CHECK(delta < 20'000);
}

}  // namespace
}  // namespace latentd
