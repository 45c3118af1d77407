// Which link is timed when.
#include "daemon/calibration/link_schedule.h"

#include <catch2/catch.hpp>
#include <set>

namespace latentd {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);
constexpr absl::Duration kPeriod = absl::Hours(1);

LinkPeer Peer(const std::string& id, uint64_t generation = 1) {
  return {.id = id, .control_address = id + ":7400", .generation = Generation{generation}};
}

// Times all that are due; says which.
std::vector<NodeId> TimeDue(LinkSchedule& schedule, absl::Time now) {
  std::vector<NodeId> timed;
  while (const auto peer = schedule.Due(now)) {
    timed.push_back(peer->id);
    schedule.Timed(peer->id, now);
    REQUIRE(timed.size() < 1000);
  }
  return timed;
}

TEST_CASE("each peer is timed at once, and again after a period, the node itself never") {
  LinkSchedule schedule("b", kPeriod, 64);
  schedule.SetPeers({Peer("a"), Peer("b"), Peer("c")}, kNow);
  CHECK(TimeDue(schedule, kNow) == std::vector<NodeId>{"c", "a"});
  CHECK(TimeDue(schedule, kNow + kPeriod - absl::Seconds(1)).empty());
  CHECK(TimeDue(schedule, kNow + kPeriod).size() == 2);
  schedule.MakeAllDue(kNow + kPeriod + absl::Seconds(1));
  CHECK(TimeDue(schedule, kNow + kPeriod + absl::Seconds(1)).size() == 2);
}

TEST_CASE("nodes begin with the peer that follows them") {
  for (const char* self : {"a", "b", "c", "d"}) {
    LinkSchedule schedule(self, kPeriod, 64);
    schedule.SetPeers({Peer("a"), Peer("b"), Peer("c"), Peer("d")}, kNow);
    const NodeId first = self == NodeId("d") ? "a" : NodeId(1, static_cast<char>(*self + 1));
    CHECK(schedule.Due(kNow)->id == first);
  }
}

TEST_CASE("a peer that does not answer for a while is not timed, and not forgotten") {
  LinkSchedule schedule("self", kPeriod, 64);
  schedule.SetPeers({Peer("a")}, kNow);
  TimeDue(schedule, kNow);
  LinkPeer silent = Peer("a", 0);
  silent.answers = false;
  CHECK(schedule.SetPeers({silent}, kNow).empty());
  CHECK(TimeDue(schedule, kNow + 2 * kPeriod).empty());
  CHECK(schedule.SetPeers({Peer("a")}, kNow + absl::Seconds(1)).empty());
  CHECK(TimeDue(schedule, kNow + absl::Seconds(1)).empty());
  schedule.SetPeers({Peer("a", 2)}, kNow + absl::Seconds(2));
  CHECK(TimeDue(schedule, kNow + absl::Seconds(2)).size() == 1);
}

TEST_CASE(
    "a peer that has restarted, moved or come is timed at once, one that has gone is told of") {
  LinkSchedule schedule("self", absl::InfiniteDuration(), 64);
  CHECK(schedule.SetPeers({Peer("a"), Peer("b"), Peer("c")}, kNow).empty());
  TimeDue(schedule, kNow);
  LinkPeer moved = Peer("c");
  moved.control_address = "elsewhere:7400";
  CHECK(schedule.SetPeers({Peer("a", 2), Peer("b"), moved, Peer("d")}, kNow + absl::Seconds(1))
            .empty());
  const auto again = TimeDue(schedule, kNow + absl::Seconds(1));
  CHECK(std::set<NodeId>(again.begin(), again.end()) == std::set<NodeId>{"a", "c", "d"});
  CHECK(schedule.SetPeers({Peer("a", 2)}, kNow) == std::vector<NodeId>{"b", "c", "d"});
  CHECK(TimeDue(schedule, kNow + absl::Hours(10'000)).empty());
}

TEST_CASE("a life that is not known for a while is the one that it was") {
  LinkSchedule schedule("self", kPeriod, 64);
  schedule.SetPeers({Peer("a", 0)}, kNow);
  TimeDue(schedule, kNow);
  for (const uint64_t generation : {7, 0, 7}) {
    schedule.SetPeers({Peer("a", generation)}, kNow);
    CHECK_FALSE(schedule.Due(kNow).has_value());
  }
  schedule.SetPeers({Peer("a", 0)}, kNow);
  schedule.SetPeers({Peer("a", 8)}, kNow);
  CHECK(schedule.Due(kNow).has_value());
}

TEST_CASE("a link that fails is tried ever less often, and does not keep others waiting") {
  LinkSchedule schedule("self", kPeriod, 64);
  schedule.SetPeers({Peer("a"), Peer("b")}, kNow);
  schedule.Failed("a", kNow);
  CHECK(TimeDue(schedule, kNow) == std::vector<NodeId>{"b"});
  absl::Time now = kNow;
  int tries = 0;
  for (; now < kNow + kPeriod; now += absl::Seconds(1)) {
    if (!schedule.Due(now).has_value()) continue;
    schedule.Failed("a", now);
    ++tries;
  }
  CHECK(tries > 10);
  CHECK(tries < 20);
}

TEST_CASE("of many peers each node times some, and all are timed by somebody") {
  std::vector<LinkPeer> peers;
  for (int i = 0; i < 200; ++i) peers.push_back(Peer("node-" + std::to_string(i)));
  std::set<NodeId> timed;
  for (const LinkPeer& self : peers) {
    LinkSchedule schedule(self.id, kPeriod, 8);
    schedule.SetPeers(peers, kNow);
    const auto own = TimeDue(schedule, kNow);
    CHECK(own.size() == 8);
    timed.insert(own.begin(), own.end());
  }
  CHECK(timed.size() == 200);
}

}  // namespace
}  // namespace latentd
