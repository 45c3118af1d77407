#include "routing/balanced_holders.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "routing/fair_shares.h"
#include "routing/placement.h"

namespace latentd {
namespace {

using TablePtr = std::shared_ptr<const RoutingTable>;

NodeInfo MakeNode(uint32_t number, uint64_t capacity_bytes = uint64_t{80} << 30) {
  const std::string id = "node-" + std::to_string(number);
  return {.id = id,
          .control_address = id + ":7400",
          .generation = Generation{1},
          .capacity_bytes = capacity_bytes};
}

std::vector<NodeInfo> MakeNodes(uint32_t count) {
  std::vector<NodeInfo> nodes;
  for (uint32_t i = 0; i < count; ++i) nodes.push_back(MakeNode(i));
  return nodes;
}

template <typename F>
void ForEachSlot(F f) {
  for (uint32_t number = 0; number < kSlotCount; ++number) f(Slot{static_cast<uint16_t>(number)});
}

// What follows once everything has been copied.
TablePtr Settled(TablePtr table, const std::vector<NodeInfo>& nodes, uint32_t replicas) {
  const auto always = [](NodeIndex, Slot, Epoch) { return true; };
  for (;;) {
    const TablePtr next =
        NextTable(table, {.nodes = nodes, .replicas = replicas, .in_sync = always}).value();
    if (next == table) return table;
    table = next;
  }
}

std::vector<uint64_t> SharesOf(const std::vector<NodeInfo>& nodes, uint32_t replicas) {
  const std::vector<NodeIndex> eligible = EligibleNodes(nodes, replicas).value();
  const std::vector<uint64_t> shares =
      FairShares(nodes, eligible, std::min<uint32_t>(replicas, eligible.size()), kSlotCount);
  std::vector<uint64_t> of_all(nodes.size());
  for (size_t i = 0; i < eligible.size(); ++i) of_all[eligible[i]] = shares[i];
  return of_all;
}

void CheckBounds(const RoutingTable& table, uint32_t replicas) {
  const std::vector<NodeInfo> nodes(table.nodes().begin(), table.nodes().end());
  const std::vector<uint64_t> shares = SharesOf(nodes, replicas);
  std::vector<uint32_t> load(nodes.size());
  std::vector<uint32_t> primaries(nodes.size());
  uint32_t slots_with_wrong_copies = 0;
  ForEachSlot([&](Slot slot) {
    std::vector<NodeIndex> holders(table.HoldersOf(slot).begin(), table.HoldersOf(slot).end());
    std::sort(holders.begin(), holders.end());
    const bool twice = std::adjacent_find(holders.begin(), holders.end()) != holders.end();
    const bool right = !twice && holders.size() == std::min<size_t>(replicas, nodes.size());
    if (!right) ++slots_with_wrong_copies;
    for (const NodeIndex node : holders) ++load[node];
    ++primaries[table.PrimaryOf(slot)];
  });
  REQUIRE(slots_with_wrong_copies == 0);
  const double copies = std::min<double>(replicas, static_cast<double>(nodes.size()));
  for (size_t i = 0; i < nodes.size(); ++i) {
    const double share = static_cast<double>(shares[i]) / (1 << kShareFractionBits);
    INFO(nodes[i].id << " holds " << load[i] << ", its share is " << share);
    CHECK(load[i] <= std::max(share + 1, 1.2 * share));
    CHECK(load[i] + 1 >= 0.75 * share);
    CHECK(primaries[i] <= 1.25 * share / copies + 2);
  }
}

// (slot, node)// (slot, node) pairs of `after` that are not in `before`.
uint32_t Moved(const RoutingTable& before, const RoutingTable& after) {
  std::vector<std::optional<NodeIndex>> then;
  for (const NodeInfo& node : after.nodes()) then.push_back(before.FindNode(node.id));
  uint32_t moved = 0;
  ForEachSlot([&](Slot slot) {
    for (const auto& list : {after.HoldersOf(slot), after.JoiningOf(slot)}) {
      for (const NodeIndex node : list) {
        if (!then[node] || !before.Holds(*then[node], slot)) ++moved;
      }
    }
  });
  return moved;
}

TEST_CASE("a node that joins takes its share, and nothing else moves") {
  const auto [nodes_before, replicas] =
      GENERATE(table<uint32_t, uint32_t>({{1, 1}, {2, 2}, {3, 2}, {20, 1}, {20, 3}, {300, 2}}));
  CAPTURE(nodes_before, replicas);
  std::vector<NodeInfo> nodes = MakeNodes(nodes_before);
  const TablePtr before = Settled(nullptr, nodes, replicas);
  CheckBounds(*before, replicas);
  nodes.push_back(MakeNode(nodes_before));
  const uint64_t share = SharesOf(nodes, replicas).back() >> kShareFractionBits;
  const TablePtr after = Settled(before, nodes, replicas);
  CheckBounds(*after, replicas);
  CHECK(Moved(*before, *after) <= share + share / 50 + 1);
  CHECK(Moved(*before, *after) >= share);
}

TEST_CASE("a node that leaves gives its slots away, and nothing else moves") {
  const auto [count, replicas] =
      GENERATE(table<uint32_t, uint32_t>({{2, 1}, {4, 2}, {20, 1}, {20, 3}, {300, 2}}));
  CAPTURE(count, replicas);
  std::vector<NodeInfo> nodes = MakeNodes(count);
  const TablePtr before = Settled(nullptr, nodes, replicas);
  uint32_t held = 0;
  ForEachSlot([&](Slot slot) { held += before->Holds(1, slot) ? 1 : 0; });
  nodes.erase(nodes.begin() + 1);
  const TablePtr after = Settled(before, nodes, replicas);
  CheckBounds(*after, replicas);
  CHECK(Moved(*before, *after) <= held + held / 50);
}

TEST_CASE("a thousand nodes and one join") {
  std::vector<NodeInfo> nodes = MakeNodes(1000);
  const TablePtr before = Settled(nullptr, nodes, 2);
  CheckBounds(*before, 2);
  nodes.push_back(MakeNode(1000));
  const TablePtr after = NextTable(before, {.nodes = nodes, .replicas = 2, .in_sync = {}}).value();
  CHECK(Moved(*before, *after) <= 2 * kSlotCount / 1001 + 1);
}

TEST_CASE("bounds hold and little moves whatever comes, goes, and changes its size") {
  const auto seed = GENERATE(1U, 2U, 3U);
  CAPTURE(seed);
  std::mt19937 random(seed);
  const uint32_t replicas = 1 + seed % 3;
  std::vector<NodeInfo> nodes = MakeNodes(12);
  TablePtr table = Settled(nullptr, nodes, replicas);
  uint32_t next = 12;
  for (int step = 0; step < 8; ++step) {
    const size_t victim = random() % nodes.size();
    switch (random() % 4) {
      case 0:
        nodes.push_back(MakeNode(next++, uint64_t{40 + random() % 80} << 30));
        break;
      case 1:
        if (nodes.size() > 6) nodes.erase(nodes.begin() + static_cast<std::ptrdiff_t>(victim));
        break;
      case 2:
        nodes[victim].capacity_bytes = uint64_t{20 + random() % 160} << 30;
        break;
      default:
        nodes[victim].generation = Generation{random()};
    }
    table = Settled(table, nodes, replicas);
    CheckBounds(*table, replicas);
  }
}

TEST_CASE("whoever goes on from a table in which slots still move, moves nothing else") {
  const auto replicas = GENERATE(1U, 2U, 3U);
  CAPTURE(replicas);
  std::vector<NodeInfo> nodes = MakeNodes(8);
  TablePtr table = Settled(nullptr, nodes, replicas);
  nodes.erase(nodes.begin() + 2);
  nodes.push_back(MakeNode(8));
  nodes[3].generation = Generation{2};
  const auto some = [](NodeIndex node, Slot slot, Epoch) { return (ToInt(slot) + node) % 3 == 0; };
  for (int step = 0; step < 3; ++step) {
    table = NextTable(table, {.nodes = nodes, .replicas = replicas, .in_sync = some}).value();
    const TablePtr again =
        NextTable(table, {.nodes = nodes, .replicas = replicas, .in_sync = {}}).value();
    CHECK(again == table);
  }
}

TEST_CASE("the same input gives the same answer") {
  const std::vector<NodeInfo> nodes = MakeNodes(20);
  const DesiredHolders a = BalanceHolders(nullptr, nodes, 3).value();
  const DesiredHolders b = BalanceHolders(nullptr, nodes, 3).value();
  ForEachSlot([&](Slot slot) {
    REQUIRE(std::equal(a.Of(slot).begin(), a.Of(slot).end(), b.Of(slot).begin(), b.Of(slot).end()));
  });
}

TEST_CASE("shares follow capacity, and nobody's is more than one copy of everything") {
  constexpr uint64_t kWhole = uint64_t{kSlotCount} << kShareFractionBits;
  const std::vector<NodeInfo> nodes = {MakeNode(0, 1000), MakeNode(1, 100), MakeNode(2, 300)};
  CHECK(SharesOf(nodes, 1) ==
        std::vector<uint64_t>{kWhole * 1000 / 1400, kWhole * 100 / 1400, kWhole * 300 / 1400});
  CHECK(SharesOf(nodes, 2) == std::vector<uint64_t>{kWhole, kWhole / 4, kWhole * 3 / 4});
  CHECK(SharesOf(nodes, 3) == std::vector<uint64_t>{kWhole, kWhole, kWhole});
}

TEST_CASE("capacity that the others have no room to copy is named") {
  const std::vector<NodeInfo> nodes = {MakeNode(0, 1000), MakeNode(1, 100), MakeNode(2, 300)};
  const std::vector<NodeIndex> all = {0, 1, 2};
  CHECK(FindIdleCapacity(nodes, all, 1).empty());
  CHECK(FindIdleCapacity(nodes, all, 2) == std::vector<IdleCapacity>{{0, 400}});
  CHECK(FindIdleCapacity(nodes, all, 3) == std::vector<IdleCapacity>{{0, 100}, {2, 100}});
  const std::vector<NodeInfo> even = {MakeNode(0, 100), MakeNode(1, 100)};
  CHECK(FindIdleCapacity(even, std::vector<NodeIndex>{0, 1}, 2).empty());
}

}  // namespace
}  // namespace latentd
