#include "daemon/replication/slot_sync.h"

#include <algorithm>
#include <map>
#include <set>

#include <catch2/catch.hpp>

#include "daemon/replication/fake_copies.h"
#include "routing/placement.h"

namespace latentd {
namespace {

Layout TestLayout() {
  Layout layout;
  layout.model = "test";
  layout.layers = 4;
  return layout;
}

NodeInfo MakeNode(int number) {
  const std::string id = "node-" + std::to_string(number);
  return {.id = id,
          .control_address = id + ":7400",
          .generation = Generation{1},
          .capacity_bytes = 1 << 30};
}

// Node `nodes - 1` is the one that joins, and the one that synchronises.
class Rig {
 public:
  explicit Rig(int nodes = 2, uint32_t replicas = 2, uint64_t seed = 1,
               SlotSyncOptions options = {})
      : replicas_(replicas), self_("node-" + std::to_string(nodes - 1)), random_(seed) {
    for (int i = 0; i < nodes; ++i) nodes_.push_back(MakeNode(i));
    cluster = std::make_unique<FakeCluster>(&scheduler, TestLayout(), self_, seed);
    before_ = NextTable(nullptr, {{nodes_.begin(), nodes_.end() - 1}, replicas, Nobody}).value();
    options.self = self_;
    sync = std::make_unique<SlotSync>(options, TestLayout(), &scheduler, cluster.get(),
                                      cluster.get(), [this](std::vector<SlotClaim> claims) {
                                        for (const SlotClaim& claim : claims)
                                          claimed[claim.slot] = claim.placed;
                                      });
  }

  // A table in which the node joins; again: the same joins, placed by what has been claimed since.
  void Join() {
    const TablePtr previous = table == nullptr ? before_ : table;
    table = NextTable(previous, {nodes_, replicas_,
                                 [this](NodeIndex node, Slot slot, Epoch placed) {
                                   const auto claim = claimed.find(slot);
                                   return nodes_[node].id == self_ && claim != claimed.end() &&
                                          claim->second == placed;
                                 }})
                .value();
    cluster->table = table;
    sync->SetTable(table);
  }
  // A node other than the one that joins is gone.
  void Lose(int number) {
    cluster->down.insert(nodes_[number].id);
    nodes_.erase(nodes_.begin() + number);
    Join();
  }

  std::vector<Slot> JoiningSlots() const {
    std::vector<Slot> slots;
    const NodeIndex self = *table->FindNode(self_);
    for (uint32_t s = 0; s < kSlotCount; ++s) {
      if (table->Joins(self, Slot{static_cast<uint16_t>(s)})) {
        slots.push_back(Slot{static_cast<uint16_t>(s)});
      }
    }
    return slots;
  }

  // A chunk on every holder of a random slot.
  ChunkId Put(FakeChunk chunk) {
    const ChunkId id{.hi = random_(), .lo = random_()};
    PutAt(id, std::move(chunk));
    return id;
  }
  void PutAt(const ChunkId& id, FakeChunk chunk) {
    const RoutingTable& by = table == nullptr ? *before_ : *table;
    for (const NodeIndex holder : by.HoldersOf(id.slot()))
      cluster->stores[by.node(holder).id][id] = chunk;
  }
  // The same, in a slot that joins; tables come before it.
  ChunkId PutToJoin(FakeChunk chunk) {
    Join();
    const Slot slot = JoiningSlots().front();
    const ChunkId id{.hi = uint64_t{ToInt(slot)} << 48 | 1, .lo = random_()};
    PutAt(id, std::move(chunk));
    return id;
  }
  NodeId Primary(const ChunkId& id) const {
    const RoutingTable& by = table == nullptr ? *before_ : *table;
    return by.node(by.PrimaryOf(id.slot())).id;
  }
  static FakeChunk Sealed(uint32_t tokens, uint64_t checksum = 7) {
    return {.sealed = true,
            .checksum = checksum,
            .layer_tokens = {tokens, tokens, tokens, tokens},
            .content = checksum};
  }

  // The table before it joins.
  const TablePtr& before() const { return before_; }
  FakeStore& here() { return cluster->stores[self_]; }
  const std::string& self() const { return self_; }
  // Everything joined is claimed, as it is placed now.
  bool ClaimedAll() const {
    for (const Slot slot : JoiningSlots()) {
      const auto claim = claimed.find(slot);
      if (claim == claimed.end() || claim->second != table->PlacedOf(slot)) return false;
    }
    return true;
  }

  FakeScheduler scheduler;
  std::unique_ptr<FakeCluster> cluster;
  std::unique_ptr<SlotSync> sync;
  TablePtr table;
  std::map<Slot, Epoch> claimed;

 private:
  static bool Nobody(NodeIndex, Slot, Epoch) { return false; }

  const uint32_t replicas_;
  const NodeId self_;
  std::mt19937_64 random_;
  std::vector<NodeInfo> nodes_;
  TablePtr before_;
};

TEST_CASE("empty slots are claimed, many for one list") {
  Rig rig;
  rig.Join();
  rig.scheduler.Run(absl::Seconds(10));
  CHECK(rig.JoiningSlots().size() == kSlotCount);
  CHECK(rig.ClaimedAll());
  CHECK(rig.cluster->lists <= kSlotCount / 256);
  CHECK(rig.sync->progress().joining == kSlotCount);
  CHECK(rig.sync->progress().claimed == kSlotCount);
}

TEST_CASE("a slot is claimed once its chunks are here, and not before") {
  Rig rig;
  const ChunkId sealed = rig.Put(Rig::Sealed(100));
  const ChunkId open = rig.Put({.layer_tokens = {64, 64, 10, 0}});
  rig.Join();
  while (rig.scheduler.Step()) {
    if (rig.claimed.contains(sealed.slot())) CHECK(rig.here()[sealed].sealed);
    if (rig.claimed.contains(open.slot())) {
      CHECK(rig.here()[open].layer_tokens == std::vector<uint32_t>{64, 64, 10, 0});
    }
  }
  CHECK(rig.ClaimedAll());
  CHECK(rig.here()[sealed] == rig.cluster->stores["node-0"][sealed]);
  CHECK(rig.here()[open] == rig.cluster->stores["node-0"][open]);
  CHECK(rig.sync->progress().counts.chunks == 2);
}

TEST_CASE("what is here is not fetched again") {
  Rig rig;
  const ChunkId whole = rig.Put(Rig::Sealed(100));
  const ChunkId half = rig.Put(Rig::Sealed(100));
  rig.here()[whole] = Rig::Sealed(100);
  rig.here()[half] = {.layer_tokens = {60, 60, 60, 60}, .content = 7};
  rig.Join();
  rig.scheduler.Run(absl::Seconds(10));
  CHECK(rig.ClaimedAll());
  CHECK(rig.cluster->fetched_bytes == 4 * 40 * TestLayout().record_bytes());
}

TEST_CASE("copies are bounded in number and in rate") {
  SlotSyncOptions options;
  options.copy = {.parallel = 3, .bytes_per_second = 1'000'000, .range_bytes = 10'000};
  Rig rig(2, 2, 5, options);
  uint64_t bytes = 0;
  for (int i = 0; i < 20; ++i) {
    rig.Put(Rig::Sealed(50));
    bytes += 4 * 50 * TestLayout().record_bytes();
  }
  rig.Join();
  const absl::Time start = rig.scheduler.now();
  absl::Time end = start;
  while (rig.scheduler.Step()) {
    end = rig.scheduler.now();
    // A quarter of a second's worth may go at once, and one range may be owed.
    const double allowed = 250'000 + 1e6 * absl::ToDoubleSeconds(end - start) + 3 * 10'000;
    CHECK(static_cast<double>(rig.cluster->fetched_bytes) <= allowed);
  }
  CHECK(rig.ClaimedAll());
  CHECK(rig.cluster->fetched_bytes == bytes);
  CHECK(rig.cluster->most_fetching == 3);
  CHECK(absl::ToDoubleSeconds(end - start) > (static_cast<double>(bytes) - 250'000) / 1e6 - 0.1);
}

TEST_CASE("a source that dies gives way to another holder") {
  SlotSyncOptions options;
  options.copy.range_bytes = 5'000;
  Rig rig(3, 3, 9, options);
  for (int i = 0; i < 10; ++i) rig.Put(Rig::Sealed(50));
  rig.Join();
  while (rig.cluster->fetches < 20) REQUIRE(rig.scheduler.Step());
  const uint64_t before = rig.cluster->fetched_bytes;
  REQUIRE(before > 0);
  rig.Lose(0);
  rig.scheduler.Run(absl::Minutes(1));
  CHECK(rig.ClaimedAll());
  CHECK(rig.here() == rig.cluster->stores["node-1"]);
}

TEST_CASE("a copy that has another checksum is dropped, doubted, and taken from another holder") {
  Rig rig(3, 3);
  std::vector<ChunkId> ids;
  for (int i = 0; i < 8; ++i) {
    ids.push_back(rig.Put(Rig::Sealed(100)));
    rig.cluster->stores["node-0"][ids.back()].content = 8;
  }
  rig.Join();
  rig.scheduler.Run(absl::Minutes(1));
  CHECK(rig.ClaimedAll());
  for (const ChunkId& id : ids) CHECK(rig.here()[id] == Rig::Sealed(100));
  CHECK_FALSE(rig.cluster->doubts.empty());
  for (const auto& [node, id] : rig.cluster->doubts) CHECK(node == "node-0");
}

TEST_CASE("what is here otherwise than at the primary makes way, sealed or not") {
  Rig rig;
  const ChunkId sealed = rig.Put(Rig::Sealed(100));
  const ChunkId shorter = rig.Put(Rig::Sealed(100));
  const ChunkId longer = rig.Put(Rig::Sealed(50));
  const ChunkId quarantined = rig.Put(Rig::Sealed(100));
  const ChunkId open_here = rig.Put(Rig::Sealed(100));
  const ChunkId open_there = rig.Put({.layer_tokens = {20, 20, 20, 20}, .content = 7});
  rig.here()[sealed] = Rig::Sealed(100, 8);
  rig.here()[shorter] = Rig::Sealed(50, 8);
  rig.here()[longer] = Rig::Sealed(100, 8);
  rig.cluster->lost[rig.self()][quarantined] = Rig::Sealed(100, 8);
  rig.here()[open_here] = {.layer_tokens = {60, 60, 60, 60}, .content = 8};
  rig.here()[open_there] = Rig::Sealed(100, 8);
  rig.Join();
  rig.scheduler.Run(absl::Minutes(1));
  CHECK(rig.ClaimedAll());
  for (const ChunkId& id : {sealed, shorter, longer, quarantined, open_here, open_there}) {
    CHECK(rig.here()[id] == rig.cluster->stores["node-0"][id]);
  }
  CHECK(rig.cluster->lost[rig.self()].empty());
}

TEST_CASE("a chunk that was sealed here since the list is not discarded") {
  Rig rig;
  const ChunkId id = rig.Put({.layer_tokens = {20, 20, 20, 20}, .content = 7});
  rig.here()[id] = Rig::Sealed(30);
  rig.Join();
  rig.scheduler.Run(absl::Minutes(1));
  CHECK(rig.ClaimedAll());
  CHECK(rig.here()[id] == Rig::Sealed(30));
}

TEST_CASE("a source that has damaged records costs nothing of what is here of the chunk") {
  Rig rig(3, 3);
  const ChunkId id = rig.Put(Rig::Sealed(100));
  rig.here()[id] = {.layer_tokens = {60, 60, 60, 60}, .content = 7};
  rig.cluster->lost["node-0"][id] = rig.cluster->stores["node-0"][id];
  rig.cluster->lost["node-1"][id] = rig.cluster->stores["node-1"][id];
  rig.Join();
  for (int i = 0; i < 10'000; ++i) {
    rig.scheduler.Step();
    REQUIRE(rig.here().contains(id));
  }
  rig.cluster->lost["node-1"].erase(id);
  rig.scheduler.Run(absl::Minutes(2));
  CHECK(rig.here()[id] == Rig::Sealed(100));
}

TEST_CASE("a chunk that no holder can give is taken over as lost, and stays in mind") {
  Rig rig(3, 3);
  const ChunkId id = rig.Put(Rig::Sealed(100));
  const ChunkId fine = rig.Put(Rig::Sealed(100));
  const NodeId primary = rig.Primary(id), other = primary == "node-0" ? "node-1" : "node-0";
  rig.cluster->lost[primary][id] = Rig::Sealed(100);
  SECTION("the others have evicted it") { rig.cluster->stores[other].erase(id); }
  SECTION("the others' are damaged too") { rig.cluster->lost[other][id] = Rig::Sealed(100); }
  rig.Join();
  rig.scheduler.Run(absl::Minutes(1));
  CHECK(rig.ClaimedAll());
  CHECK(rig.cluster->lost[rig.self()].contains(id));
  CHECK(rig.here().contains(fine));
  CHECK(rig.sync->progress().damaged == 1);
  CHECK(rig.sync->progress().damaged_some == std::vector<ChunkId>{id});
  // Somebody has it again.
  rig.Join();
  rig.cluster->lost[other].erase(id);
  rig.cluster->stores[other][id] = Rig::Sealed(100);
  rig.scheduler.Run(absl::Minutes(2));
  CHECK(rig.here()[id] == Rig::Sealed(100));
  CHECK(rig.cluster->lost[rig.self()].empty());
  CHECK(rig.sync->progress().damaged == 0);
}

TEST_CASE("what is here under the id of a lost chunk makes way too") {
  Rig rig;
  const ChunkId id = rig.Put(Rig::Sealed(100));
  rig.cluster->lost["node-0"][id] = rig.cluster->stores["node-0"][id];
  rig.here()[id] = Rig::Sealed(100, 8);
  rig.Join();
  rig.scheduler.Run(absl::Minutes(1));
  CHECK(rig.ClaimedAll());
  CHECK(rig.cluster->lost[rig.self()].contains(id));
  CHECK_FALSE(rig.here().contains(id));
}

TEST_CASE("a damaged chunk waits for a holder that may have it whole") {
  Rig rig(3, 3);
  const ChunkId id = rig.Put(Rig::Sealed(100));
  const NodeId primary = rig.Primary(id);
  rig.cluster->lost[primary][id] = Rig::Sealed(100);
  rig.cluster->down.insert(primary == "node-0" ? "node-1" : "node-0");
  rig.Join();
  rig.scheduler.Run(absl::Minutes(1));
  CHECK_FALSE(rig.claimed.contains(id.slot()));
  rig.cluster->down.clear();
  rig.scheduler.Run(absl::Minutes(1));
  CHECK(rig.ClaimedAll());
  CHECK(rig.here()[id] == Rig::Sealed(100));
}

TEST_CASE("damage that nobody has found yet does not keep a slot where it is") {
  Rig rig(2, 1);
  const ChunkId id = rig.PutToJoin(Rig::Sealed(100));
  rig.cluster->stores["node-0"][id].content = 8;
  rig.scheduler.Run(absl::Minutes(1));
  CHECK(rig.ClaimedAll());
  CHECK(rig.cluster->lost[rig.self()].contains(id));
}

TEST_CASE("an open chunk that its primary gave up while it was copied is dropped") {
  Rig rig;
  const ChunkId id = rig.Put({.layer_tokens = {9, 9, 9, 9}});
  rig.Join();
  while (!rig.here().contains(id)) REQUIRE(rig.scheduler.Step());
  rig.cluster->stores["node-0"].erase(id);
  rig.scheduler.Run(absl::Seconds(10));
  CHECK(rig.ClaimedAll());
  CHECK_FALSE(rig.here().contains(id));
}

TEST_CASE("a cache too small for what it joins does not copy for ever") {
  Rig rig;
  rig.cluster->most_chunks = 5;
  for (int i = 0; i < 20; ++i) rig.Put(Rig::Sealed(10));
  rig.Join();
  rig.scheduler.Run(absl::Minutes(1));
  CHECK(rig.ClaimedAll());
  CHECK(rig.sync->progress().counts.chunks == 20);
  CHECK(rig.here().size() == 5);
}

TEST_CASE("a slot that is placed otherwise starts again, and fetches nothing twice") {
  Rig rig(3, 3);
  for (int i = 0; i < 10; ++i) rig.Put(Rig::Sealed(10));
  rig.Join();
  rig.scheduler.Run(absl::Seconds(10));
  REQUIRE(rig.ClaimedAll());
  const uint64_t fetches = rig.cluster->fetches;
  const auto earlier = rig.claimed;
  rig.claimed.clear();  // the authority has not heard of them
  rig.Lose(0);
  rig.scheduler.Run(absl::Seconds(10));
  CHECK(rig.ClaimedAll());
  CHECK(rig.cluster->fetches == fetches);
  CHECK(rig.claimed != earlier);
}

TEST_CASE("slots that became its own are forgotten") {
  Rig rig;
  rig.Put(Rig::Sealed(10));
  rig.Join();
  rig.scheduler.Run(absl::Seconds(10));
  rig.Join();
  CHECK(rig.JoiningSlots().empty());
  CHECK(rig.sync->progress().joining == 0);
  CHECK(rig.sync->progress().claimed == 0);
}

TEST_CASE("a damaged chunk is fetched anew from another holder") {
  Rig rig;
  const ChunkId id = rig.Put(Rig::Sealed(10));
  rig.Join();
  rig.scheduler.Run(absl::Seconds(10));
  rig.Join();
  rig.here().erase(id);
  rig.cluster->down.insert("node-0");
  rig.sync->Repair({.id = id, .sealed = true, .tokens = 10, .checksum = 7});
  rig.scheduler.Run(absl::Milliseconds(100));
  CHECK_FALSE(rig.here().contains(id));
  rig.cluster->down.clear();
  rig.scheduler.Run(absl::Seconds(10));
  CHECK(rig.here()[id] == Rig::Sealed(10));
  CHECK(rig.sync->progress().repaired == 1);
}

TEST_CASE("a damaged chunk is asked for until somebody has it") {
  Rig rig;
  const ChunkId id = rig.Put(Rig::Sealed(10));
  rig.Join();
  rig.scheduler.Run(absl::Seconds(10));
  rig.Join();
  rig.here().erase(id);
  const ChunkState damaged = {.id = id, .sealed = true, .tokens = 10, .checksum = 7};

  SECTION("after hours in which it did not answer") {
    rig.cluster->down.insert("node-0");
    rig.sync->Repair(damaged);
    rig.scheduler.Run(absl::Hours(3));
    CHECK(rig.cluster->fetches < 1000);
    rig.cluster->down.clear();
    rig.scheduler.Run(absl::Minutes(2));
  }
  SECTION("when a table names another holder") {
    const TablePtr both = rig.table;
    rig.Lose(0);
    rig.sync->Repair(damaged);
    rig.scheduler.Run(absl::Hours(3));
    CHECK(rig.sync->progress().damaged == 1);
    rig.cluster->down.clear();
    rig.cluster->table = both;
    rig.sync->SetTable(both);
    rig.scheduler.Run(absl::Seconds(10));
  }
  CHECK(rig.here()[id] == Rig::Sealed(10));
  CHECK(rig.sync->progress().repaired == 1);
  CHECK(rig.sync->progress().damaged == 0);
}

TEST_CASE("damage is kept in mind until a table says whether the slot is here") {
  Rig rig;
  const ChunkId id = rig.Put(Rig::Sealed(10));
  const ChunkState damaged = {.id = id, .sealed = true, .tokens = 10, .checksum = 7};
  rig.cluster->table = rig.before();
  rig.sync->SetTable(rig.before());
  rig.sync->Repair(damaged);
  rig.scheduler.Run(absl::Seconds(10));
  CHECK(rig.sync->progress().damaged == 1);
  SECTION("it is") {
    rig.Join();
    rig.scheduler.Run(absl::Seconds(10));
    CHECK(rig.here()[id] == Rig::Sealed(10));
  }
  SECTION("it is not") {
    rig.sync->SetTable(rig.before());
    rig.scheduler.Run(absl::Seconds(10));
  }
  CHECK(rig.sync->progress().damaged == 0);
}

TEST_CASE("a damaged chunk that is published again needs no repair") {
  Rig rig;
  const ChunkId id = rig.Put(Rig::Sealed(10));
  rig.Join();
  rig.scheduler.Run(absl::Seconds(10));
  rig.Join();
  rig.here().erase(id);
  rig.cluster->stores["node-0"].erase(id);
  rig.sync->Repair({.id = id, .sealed = true, .tokens = 10, .checksum = 7});
  rig.scheduler.Run(absl::Minutes(5));
  CHECK(rig.sync->progress().damaged == 1);
  rig.here()[id] = Rig::Sealed(10);
  rig.scheduler.Run(absl::Minutes(2));
  CHECK(rig.sync->progress().damaged == 0);
  CHECK(rig.sync->progress().repaired == 0);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 4;  // each takes ten times as long
#else
constexpr uint64_t kSeeds = 15;
#endif

TEST_CASE("whatever fails on the way, everything is here in the end") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    SlotSyncOptions options;
    options.slots_per_list = 1024;
    options.copy = {.parallel = 1 + static_cast<uint32_t>(random() % 4),
                    .bytes_per_second = random() % 2 * 4'000'000,
                    .range_bytes = 2'000 + random() % 20'000};
    Rig rig(3 + static_cast<int>(random() % 2), 2, seed, options);
    rig.cluster->failures = static_cast<double>(random() % 3) * 0.1;
    std::vector<ChunkId> ids;
    for (int i = 0; i < 30; ++i) {
      const auto tokens = static_cast<uint32_t>(1 + random() % 20);
      ids.push_back(random() % 3 == 0 ? rig.Put({.layer_tokens = {tokens, tokens, 1, 0}})
                                      : rig.Put(Rig::Sealed(tokens, random())));
    }
    rig.Join();
    const int steps = static_cast<int>(random() % 300);
    for (int i = 0; i < steps; ++i) rig.scheduler.Step();
    rig.Lose(0);
    rig.scheduler.Run(absl::Minutes(2));
    REQUIRE(rig.ClaimedAll());
    // What some holder of a slot still has, this node has too.
    for (const ChunkId& id : ids) {
      const auto index = *rig.table->FindNode(rig.self());
      if (!rig.table->Joins(index, id.slot())) continue;
      const FakeStore& primary =
          rig.cluster->stores[rig.table->node(rig.table->PrimaryOf(id.slot())).id];
      const auto there = primary.find(id);
      if (there == primary.end()) continue;
      REQUIRE(rig.here().contains(id));
      CHECK(rig.here()[id] == there->second);
    }
  }
}

}  // namespace
}  // namespace latentd
