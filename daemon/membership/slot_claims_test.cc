#include "daemon/membership/slot_claims.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

constexpr Generation kOne{11};
constexpr Generation kTwo{22};
constexpr Slot kFirst{3};
constexpr Slot kSecond{4};

// node-1 and node-2 hold or join all slots but kSecond, which node-1 alone holds.
TablePtr MakeTable(uint64_t epoch, uint64_t placed, bool joins, Generation two = kTwo) {
  const std::vector<NodeInfo> nodes = {
      {.id = "node-1", .control_address = "a:1", .generation = kOne, .capacity_bytes = 1},
      {.id = "node-2", .control_address = "b:1", .generation = two, .capacity_bytes = 1}};
  const auto range = [&](uint32_t first, uint32_t slots, std::vector<NodeIndex> holders,
                         std::vector<NodeIndex> joining) {
    return SlotRange{.first_slot = first,
                     .slots = slots,
                     .generation = Generation{1},
                     .holders = std::move(holders),
                     .joining = std::move(joining),
                     .placed = Epoch{placed}};
  };
  const std::vector<NodeIndex> both = {0, 1}, one = {0}, two_joins = {1};
  const auto& holders = joins ? one : both;
  const auto joining = joins ? two_joins : std::vector<NodeIndex>{};
  return RoutingTable::Create({Epoch{epoch},
                               nodes,
                               {range(0, 4, holders, joining), range(4, 1, one, {}),
                                range(5, kSlotCount - 5, holders, joining)}})
      .value();
}

MissedWrite OfTwo(Slot slot, uint64_t placed) {
  return {.node = "node-2", .generation = kTwo, .slot = slot, .placed = Epoch{placed}};
}

TEST_CASE("claims and what others missed come out of etcd as they went in") {
  SlotClaimSet claims(kOne);
  CHECK(claims.empty());
  CHECK(claims.Add({{Slot{0}, Epoch{2}}, {Slot{1}, Epoch{2}}, {Slot{65535}, Epoch{1}}}));
  CHECK(claims.AddMissed(OfTwo(kFirst, 5)));
  CHECK(claims.AddMissed(OfTwo(kSecond, 5)));
  CHECK_FALSE(claims.AddMissed(OfTwo(kSecond, 4)));
  CHECK_FALSE(claims.empty());
  const auto read = SlotClaimSet::Unpack(claims.Pack());
  REQUIRE(read.ok());
  CHECK(read->generation() == kOne);
  CHECK(read->Has(Slot{1}, Epoch{2}));
  CHECK(read->Has(Slot{65535}, Epoch{1}));
  CHECK_FALSE(read->Has(Slot{2}, Epoch{2}));
  REQUIRE(read->missed().contains("node-2"));
  CHECK(read->missed().at("node-2").generation == kTwo);
  CHECK(read->missed().at("node-2").placed ==
        std::map<Slot, Epoch>{{kFirst, Epoch{5}}, {kSecond, Epoch{5}}});
  CHECK(SlotClaimSet::Unpack("no claims").status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("what a node missed counts until it joins the slot anew") {
  SlotClaimSet claims(kOne);
  claims.AddMissed(OfTwo(kFirst, 5));
  // It holds the slot, whenever it was placed so: its claim may have been quicker.
  CHECK_FALSE(claims.KeepWhatCounts(*MakeTable(5, 5, false), "node-1"));
  CHECK_FALSE(claims.KeepWhatCounts(*MakeTable(6, 6, false), "node-1"));
  // It joins it as it was placed then.
  CHECK_FALSE(claims.KeepWhatCounts(*MakeTable(7, 5, true), "node-1"));
  CHECK(claims.KeepWhatCounts(*MakeTable(8, 8, true), "node-1"));
  CHECK(claims.empty());
}

TEST_CASE("what others missed is not forgotten while the one who knows joins the slot anew") {
  SlotClaimSet claims(kTwo);
  claims.AddMissed({.node = "node-1", .generation = kOne, .slot = kFirst, .placed = Epoch{5}});
  CHECK_FALSE(claims.KeepWhatCounts(*MakeTable(6, 6, true), "node-2"));
  CHECK_FALSE(claims.KeepWhatCounts(*MakeTable(7, 7, false), "node-2"));
  CHECK_FALSE(claims.missed().empty());
}

TEST_CASE(
    "what a node missed does not count where it is nothing, has another memory, or is told by one "
    "who has nothing of the slot") {
  SlotClaimSet claims(kOne);
  claims.AddMissed(OfTwo(kSecond, 5));
  CHECK(claims.KeepWhatCounts(*MakeTable(5, 5, false), "node-1"));
  claims.AddMissed(OfTwo(kFirst, 5));
  CHECK(claims.KeepWhatCounts(*MakeTable(5, 5, false, Generation{23}), "node-1"));
  claims.AddMissed(OfTwo(kFirst, 5));
  CHECK(claims.KeepWhatCounts(*MakeTable(5, 5, false), "node-3"));
  CHECK(claims.empty());
}

}  // namespace
}  // namespace latentd
