// With a real etcd. What can go wrong is tests/sim's; this is that the parts fit.
#include "daemon/membership/etcd_membership.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "daemon/etcd/testing/etcd_process.h"
#include "daemon/etcd/testing/etcd_test_client.h"
#include "daemon/membership/cluster_keys.h"
#include "proto/latentd/v1/membership.pb.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/loopback.h"

namespace latentd::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

Layout TestLayout(const std::string& model = "m") {
  Layout layout;
  layout.model = model;
  layout.layers = 2;
  return layout;
}

// A membership and what it delivered. It claims at once whatever it joins: it has no chunks.
class Node {
 public:
  Node(const EtcdProcesses& etcd, const std::string& cluster, const std::string& id,
       uint64_t generation, const Layout& layout = TestLayout())
      : Node(EtcdOptions{.endpoints = etcd.endpoints()}, cluster, id, generation, layout) {}
  Node(EtcdOptions etcd, const std::string& cluster, const std::string& id, uint64_t generation,
       const Layout& layout = TestLayout())
      : membership_({.etcd = std::move(etcd),
                     .cluster = cluster,
                     .lease = absl::Seconds(1),
                     .replicas = 2,
                     .layout = layout,
                     .version = "1.2.3"}) {
    const NodeInfo self{.id = id,
                        .control_address = id + ":" + std::to_string(7000 + generation),
                        .generation = Generation{generation},
                        .capacity_bytes = 1 << 30};
    const absl::Status started =
        membership_.Start(self, [this, id](const TablePtr& table) { Take(*table, id); });
    REQUIRE(started.ok());
  }

  Membership& membership() { return membership_; }
  const EtcdMembership& etcd() const { return membership_; }
  bool out_of_order() const { return out_of_order_; }
  bool open() const { return !membership_.fence().closed(); }
  FenceReason reason() const { return membership_.fence().reason(); }

  bool HasTableOf(size_t nodes) const {
    const TablePtr table = membership_.table();
    if (table == nullptr || table->nodes().size() != nodes) return false;
    const PlacementProgress progress = ProgressOf(*table, 2);
    return progress.joining == 0;
  }
  bool TroubleSays(const std::string& text) const {
    for (const std::string& trouble : membership_.status().troubles) {
      if (absl::StrContains(trouble, text)) return true;
    }
    return false;
  }

 private:
  void Take(const RoutingTable& table, const std::string& id) {
    if (table.epoch() <= last_) out_of_order_ = true;
    last_ = table.epoch();
    const auto self = table.FindNode(id);
    if (!self) return;
    std::vector<SlotClaim> claims;
    for (uint32_t number = 0; number < kSlotCount; ++number) {
      const Slot slot{static_cast<uint16_t>(number)};
      if (table.Joins(*self, slot)) claims.push_back({slot, table.PlacedOf(slot)});
    }
    if (!claims.empty()) membership_.Claim(std::move(claims));
  }

  EtcdMembership membership_;
  Epoch last_{};
  std::atomic<bool> out_of_order_ = false;
};

EtcdProcesses& Server() {
  static EtcdProcesses server;
  return server;
}

TEST_CASE("nodes find one another, and one that comes later takes its share") {
  Node a(Server(), "join", "a", 1);
  Node b(Server(), "join", "b", 2);
  REQUIRE(Eventually(kPatience, [&] { return a.HasTableOf(2) && b.HasTableOf(2); }));
  Node c(Server(), "join", "c", 3);
  REQUIRE(Eventually(kPatience, [&] {
    return a.HasTableOf(3) && b.HasTableOf(3) && c.HasTableOf(3) && a.open() && b.open() &&
           c.open();
  }));
  REQUIRE(Eventually(kPatience, [&] {
    const Epoch epoch = a.membership().table()->epoch();
    return b.membership().table()->epoch() == epoch && c.membership().table()->epoch() == epoch;
  }));
  CHECK(a.membership().table()->ToParts() == c.membership().table()->ToParts());
  const auto share = c.membership().table()->SlotsOf(*c.membership().table()->FindNode("c")).size();
  CHECK(share == Approx(kSlotCount / 3.0).epsilon(0.05));
  CHECK(Eventually(kPatience, [&] { return a.membership().ListNodes().size() == 3; }));
  CHECK(a.membership().ListNodes()[1].version == "1.2.3");
  CHECK_FALSE(a.out_of_order());

  SECTION("who leaves is out of the table at once, who drains once others have its slots") {
    b.membership().SetDraining(true);
    CHECK(Eventually(kPatience, [&] {
      const TablePtr table = a.membership().table();
      const auto drained = table->FindNode("b");
      return drained && table->SlotsOf(*drained).empty();
    }));
    b.membership().Stop();
    CHECK(Eventually(kPatience, [&] { return a.HasTableOf(2) && c.HasTableOf(2); }));
    CHECK_FALSE(b.open());
    CHECK(b.reason() == FenceReason::kLeft);
  }
}

TEST_CASE("the second node of an id is refused by name, and takes over when the first has gone") {
  auto first = std::make_unique<Node>(Server(), "twice", "a", 1);
  REQUIRE(Eventually(kPatience, [&] { return first->open() && first->HasTableOf(1); }));
  Node second(Server(), "twice", "a", 2);
  REQUIRE(Eventually(kPatience, [&] {
    return second.TroubleSays("node id 'a' is taken: by the daemon at a:7001");
  }));
  CHECK_FALSE(second.open());
  CHECK(second.reason() == FenceReason::kIdTaken);
  CHECK(first->open());
  first.reset();
  CHECK(Eventually(kPatience, [&] {
    const TablePtr table = second.membership().table();
    return second.open() && table != nullptr && table->node(0).generation == Generation{2};
  }));
}

TEST_CASE("a node of another layout is kept out, and named") {
  Node a(Server(), "layout", "a", 1);
  REQUIRE(Eventually(kPatience, [&] { return a.HasTableOf(1); }));
  Node b(Server(), "layout", "b", 2, TestLayout("other"));
  CHECK(Eventually(kPatience, [&] { return a.TroubleSays("node 'b' holds other"); }));
  CHECK(a.HasTableOf(1));
  CHECK(a.TroubleSays("slots have fewer than 2 copies: 1 node is there"));
}

TEST_CASE("operators are told who coordinates, since when, and how long a lease lasts") {
  const absl::Time before = absl::Now() - absl::Seconds(1);
  Node a(Server(), "told", "a", 1);
  REQUIRE(Eventually(kPatience, [&] { return a.HasTableOf(1) && a.open(); }));
  Node b(Server(), "told", "b", 2);
  REQUIRE(Eventually(kPatience, [&] { return b.HasTableOf(2) && b.open(); }));
  REQUIRE(Eventually(kPatience, [&] { return b.etcd().authority()->troubles.empty(); }));
  const AuthorityStatus told = *b.etcd().authority();
  CHECK(told.registered);
  CHECK(told.lease != 0);
  CHECK(told.serves_for > absl::ZeroDuration());
  CHECK(told.serves_for <= absl::Seconds(1));
  CHECK(told.coordinator == "a");
  CHECK_FALSE(told.coordinates);
  CHECK(a.etcd().authority()->coordinates);
  CHECK(told.coordinator_since > before);
  CHECK(told.coordinator_since <= absl::Now() + absl::Seconds(1));
  b.membership().Stop();
  CHECK(b.etcd().authority()->serves_for == absl::ZeroDuration());
}

TEST_CASE("an etcd that is not there, or does not let the node in, is named; it is asked again") {
  EtcdProcesses etcd;
  const std::string folder = FreshFolder("membership");
  WriteFile(folder + "/wrong", "guess\n");
  SECTION("not there") {
    etcd.Kill(0);
    Node node(etcd, "late", "a", 1);
    CHECK(Eventually(kPatience, [&] { return node.TroubleSays("Connection refused"); }));
    CHECK(node.TroubleSays(etcd.endpoints()[0]));
    CHECK_FALSE(node.open());
    CHECK(node.reason() == FenceReason::kNotJoined);
    CHECK(node.membership().table() == nullptr);
    etcd.Restart(0);
    CHECK(Eventually(kPatience, [&] { return node.open() && node.HasTableOf(1); }));
    CHECK(Eventually(absl::Seconds(3), [&] { return node.etcd().status().etcd_trouble.empty(); }));
  }
  SECTION("wrong password") {
    etcd.EnableAuth("latentd", "secret", "/latentd/");
    Node node(
        EtcdOptions{
            .endpoints = etcd.endpoints(), .user = "latentd", .password_path = folder + "/wrong"},
        "locked", "a", 1);
    CHECK(Eventually(kPatience, [&] {
      return node.TroubleSays("as user 'latentd'") && node.TroubleSays("authentication failed");
    }));
    CHECK_FALSE(node.open());
    CHECK(node.membership().table() == nullptr);
  }
}

TEST_CASE("a table that needs features of a newer version is not followed, and said so") {
  Node a(Server(), "newer", "a", 1);
  REQUIRE(Eventually(kPatience, [&] { return a.open() && a.HasTableOf(1); }));
  EtcdTestClient other(EtcdOptions{.endpoints = Server().endpoints()});
  const std::string key = ClusterKeys("newer").Head();
  const auto listing = other.List(key);
  REQUIRE(listing.ok());
  REQUIRE(listing->entries.size() == 1);
  v1::TableHead head;
  REQUIRE(head.ParseFromString(listing->entries[0].value));
  const Epoch epoch = a.membership().table()->epoch();

  SECTION("fields that it does not know do no harm") {
    head.GetReflection()->MutableUnknownFields(&head)->AddVarint(12345, 1);
    other.Put(key, head.SerializeAsString());
    Node b(Server(), "newer", "b", 2);
    CHECK(Eventually(kPatience, [&] { return b.open() && b.HasTableOf(2); }));
    CHECK(a.membership().table()->epoch() > epoch);
  }
  SECTION("features do") {
    head.set_epoch(head.epoch() + 1);
    head.set_required_features(uint64_t{1} << 63);
    other.Put(key, head.SerializeAsString());
    CHECK(Eventually(kPatience, [&] {
      return a.TroubleSays("needs features 0x8000000000000000") && !a.open();
    }));
    CHECK(a.reason() == FenceReason::kTableUnread);
    CHECK(a.membership().table()->epoch() == epoch);
  }
}

TEST_CASE("a cluster goes on when its etcd was away for longer than the leases") {
  EtcdProcesses etcd;
  Node a(etcd, "away", "a", 1);
  Node b(etcd, "away", "b", 2);
  REQUIRE(Eventually(kPatience, [&] { return a.HasTableOf(2) && b.HasTableOf(2); }));
  const Generation generation = a.membership().table()->GenerationOf(Slot{0});
  etcd.Kill(0);
  REQUIRE(Eventually(kPatience, [&] { return !a.open() && !b.open(); }));
  CHECK(a.reason() == FenceReason::kLeaseLost);
  etcd.Restart(0);
  REQUIRE(Eventually(kPatience, [&] { return a.open() && b.open(); }));
  CHECK(a.membership().table()->GenerationOf(Slot{0}) == generation);
}

TEST_CASE("what a node has measured reaches the others, and goes with its lease") {
  Node a(Server(), "costs", "a", 1);
  auto b = std::make_unique<Node>(Server(), "costs", "b", 2);
  CHECK(a.membership().tells_costs());
  v1::NodeCosts costs;
  costs.set_node_id("b");
  costs.set_generation(2);
  costs.add_links()->set_probe_us(-3);  // who reads it checks it
  b->membership().PublishCosts(costs);
  const auto probe = [&]() -> std::optional<double> {
    const auto known = a.membership().costs();
    if (known.size() != 1 || known[0].node_id() != "b") return std::nullopt;
    return known[0].links(0).probe_us();
  };
  REQUIRE(Eventually(kPatience, [&] { return probe() == -3; }));
  costs.mutable_links(0)->set_probe_us(17);
  b->membership().PublishCosts(costs);
  REQUIRE(Eventually(kPatience, [&] { return probe() == 17; }));
  b.reset();
  CHECK(Eventually(kPatience, [&] { return a.membership().costs().empty(); }));
}

}  // namespace
}  // namespace latentd::testing
