#include "daemon/services/peer_record.h"

#include <catch2/catch.hpp>

#include "routing/layout_proto.h"

namespace latentd {
namespace {

const absl::Time kStart = absl::UnixEpoch();

Layout TestLayout() {
  Layout layout;
  layout.model = "test-model";
  layout.layers = 2;
  return layout;
}

OwnSide Own() { return {.layout = TestLayout(), .epoch = 4, .table_fingerprint = 0xf00}; }

v1::StatusResponse Answer() {
  v1::StatusResponse answer;
  answer.set_node_id("node-b");
  answer.set_version("1.2.3");
  answer.set_generation(77);
  answer.set_state(v1::NODE_STATE_ACTIVE);
  answer.set_epoch(4);
  answer.set_table_fingerprint(0xf00);
  *answer.mutable_layout() = ToProto(TestLayout());
  answer.add_lanes()->set_cache_bytes(3);
  answer.add_lanes()->set_cache_bytes(4);
  return answer;
}

const absl::Status kRefused = absl::UnavailableError("Connection refused");

struct Peer {
  PeerRecord record{.id = "node-b", .control_address = "10.0.0.2:7400"};
  int seconds = 0;

  std::vector<PeerNews> Hears(const absl::StatusOr<v1::StatusResponse>& answer) {
    return Observe(answer, Own(), kStart + absl::Seconds(++seconds), record);
  }
};

TEST_CASE("a peer that answers is known with its state, generation, version and memory") {
  Peer peer;
  const std::vector<PeerNews> news = peer.Hears(Answer());
  REQUIRE(news.size() == 1);
  CHECK(news[0].event == PeerEvent::kReachable);
  CHECK(peer.record.state == PeerState::kActive);
  CHECK(peer.record.generation == Generation{77});
  CHECK(peer.record.version == "1.2.3");
  CHECK(peer.record.capacity_bytes == 7);
  CHECK(peer.record.last_seen == kStart + absl::Seconds(1));
  CHECK(peer.record.difference.empty());
  CHECK(peer.Hears(Answer()).empty());
  CHECK(peer.record.last_seen == kStart + absl::Seconds(2));
}

TEST_CASE("a peer that drains is seen to") {
  Peer peer;
  peer.Hears(Answer());
  v1::StatusResponse draining = Answer();
  draining.set_state(v1::NODE_STATE_DRAINING);
  CHECK(peer.Hears(draining).empty());
  CHECK(peer.record.state == PeerState::kDraining);
}

TEST_CASE("one failure is a hiccup, more of them are told once, and so is the end") {
  Peer peer;
  peer.Hears(Answer());
  CHECK(peer.Hears(kRefused).empty());
  CHECK(peer.record.state == PeerState::kActive);
  const std::vector<PeerNews> gone = peer.Hears(kRefused);
  REQUIRE(gone.size() == 1);
  CHECK(gone[0].event == PeerEvent::kUnreachable);
  CHECK(gone[0].detail == "Connection refused");
  CHECK(peer.record.state == PeerState::kUnreachable);
  CHECK(peer.Hears(kRefused).empty());
  CHECK(peer.record.generation == Generation{77});
  CHECK(peer.record.last_seen == kStart + absl::Seconds(1));
  const std::vector<PeerNews> back = peer.Hears(Answer());
  REQUIRE(back.size() == 1);
  CHECK(back[0].event == PeerEvent::kReachable);
  CHECK(peer.record.failure.empty());
}

TEST_CASE("a peer that never answered is unknown, then unreachable") {
  Peer peer;
  CHECK(peer.Hears(kRefused).empty());
  CHECK(peer.record.state == PeerState::kUnknown);
  CHECK(peer.Hears(kRefused).size() == 1);
  CHECK(peer.record.state == PeerState::kUnreachable);
}

TEST_CASE("a peer with another generation has restarted") {
  Peer peer;
  peer.Hears(Answer());
  v1::StatusResponse restarted = Answer();
  restarted.set_generation(78);
  const std::vector<PeerNews> news = peer.Hears(restarted);
  REQUIRE(news.size() == 1);
  CHECK(news[0].event == PeerEvent::kRestarted);
  CHECK(peer.record.generation == Generation{78});
}

TEST_CASE("another node at the peer's address is not the peer") {
  Peer peer;
  v1::StatusResponse other = Answer();
  other.set_node_id("node-x");
  peer.Hears(other);
  const std::vector<PeerNews> news = peer.Hears(other);
  REQUIRE(news.size() == 1);
  CHECK(news[0].event == PeerEvent::kUnreachable);
  CHECK(news[0].detail == "10.0.0.2:7400 answers as node \"node-x\"");
  CHECK(peer.record.generation == Generation{0});
}

TEST_CASE("another layout is told once, with the fields that differ and both values") {
  Peer peer;
  Layout layout = TestLayout();
  layout.record_format = RecordFormat::kFp8;
  v1::StatusResponse differs = Answer();
  *differs.mutable_layout() = ToProto(layout);
  const std::vector<PeerNews> news = peer.Hears(differs);
  REQUIRE(news.size() == 2);
  CHECK(news[1].event == PeerEvent::kDiffers);
  CHECK(news[1].detail == "layout: record fp8 instead of bf16");
  CHECK(peer.record.state == PeerState::kActive);
  CHECK(peer.Hears(differs).empty());
  const std::vector<PeerNews> mended = peer.Hears(Answer());
  REQUIRE(mended.size() == 1);
  CHECK(mended[0].event == PeerEvent::kAgrees);
}

TEST_CASE("another routing table is told with both epochs, or both fingerprints of one epoch") {
  Peer peer;
  v1::StatusResponse older = Answer();
  older.set_epoch(3);
  older.set_table_fingerprint(0xbad);
  CHECK(peer.Hears(older).at(1).detail == "routing table: epoch 3 instead of 4");
  v1::StatusResponse other = Answer();
  other.set_table_fingerprint(0xbad);
  const std::string detail = peer.Hears(other).at(0).detail;
  CHECK(detail.find("epoch 4, 0000000000000bad instead of 0000000000000f00") != std::string::npos);
}

TEST_CASE("where tables follow one another, only one that stands still differs") {
  PeerRecord record{.id = "node-b"};
  OwnSide own = Own();
  own.epochs_move = true;
  v1::StatusResponse behind = Answer();
  const auto hears = [&](int second) {
    behind.set_epoch(own.epoch - 1);
    return Observe(behind, own, kStart + absl::Seconds(second), record);
  };
  CHECK(hears(0).size() == 1);  // reachable
  for (int second = 1; second < 60; ++second) {
    ++own.epoch;
    CHECK(hears(second).empty());
  }
  CHECK(hears(59 + 9).empty());
  const std::vector<PeerNews> stuck = hears(59 + 10);
  REQUIRE(stuck.size() == 1);
  CHECK(stuck[0].event == PeerEvent::kDiffers);
  CHECK(stuck[0].detail == "routing table: epoch 62 instead of 63");
  ++own.epoch;
  CHECK(hears(80).at(0).event == PeerEvent::kAgrees);
}

TEST_CASE("a peer that has no table yet, or tells no fingerprint, does not differ") {
  Peer peer;
  v1::StatusResponse without = Answer();
  without.set_table_fingerprint(0);
  CHECK(peer.Hears(without).size() == 1);
  without.set_epoch(0);
  CHECK(peer.Hears(without).empty());
}

}  // namespace
}  // namespace latentd
