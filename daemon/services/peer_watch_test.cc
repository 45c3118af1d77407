// A watch over real gRPC servers on loopback.
#include "daemon/services/peer_watch.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <catch2/catch.hpp>

#include "absl/time/clock.h"
#include "daemon/membership/static_membership.h"
#include "daemon/services/control_server.h"
#include "daemon/services/test_certificates.h"
#include "proto/latentd/v1/admin.grpc.pb.h"
#include "routing/layout_proto.h"

namespace latentd {
namespace {

Layout TestLayout() {
  Layout layout;
  layout.model = "test-model";
  layout.layers = 2;
  return layout;
}

// A peer that answers nothing but Status.
class Peer : public v1::Admin::Service {
 public:
  // Listens on `listen`; again after Stop.
  void Start(const std::string& listen = "127.0.0.1:0", std::optional<TlsConfig> tls = {}) {
    auto started = ControlServer::Start({.listen = listen, .tls = std::move(tls)}, {this});
    INFO(started.status());
    REQUIRE(started.ok());
    server_ = *std::move(started);
    address_ = server_->address();
  }
  void Stop() { server_.reset(); }
  const std::string& address() const { return address_; }

  grpc::Status Status(grpc::ServerContext* context, const v1::StatusRequest*,
                      v1::StatusResponse* response) override {
    asked = true;
    while (hangs && !context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
    response->set_node_id("node-b");
    response->set_version("7.7.7");
    response->set_generation(generation);
    response->set_state(draining ? v1::NODE_STATE_DRAINING : v1::NODE_STATE_ACTIVE);
    *response->mutable_layout() = ToProto(TestLayout());
    return grpc::Status::OK;
  }

  std::atomic<uint64_t> generation{5};
  std::atomic<bool> draining{false};
  std::atomic<bool> hangs{false};
  std::atomic<bool> asked{false};

 private:
  std::unique_ptr<ControlServer> server_;
  std::string address_;
};

struct World {
  World(const std::string& peer_address, PeerWatchOptions options)
      : membership({.peers = {{"node-a", "127.0.0.1:1", 0}, {"node-b", peer_address, 0}}}),
        watch(&facts, &membership, std::move(options)) {
    REQUIRE(
        membership.Start({.id = "node-a", .control_address = "127.0.0.1:1"}, [](const TablePtr&) {})
            .ok());
    watch.Start();
  }

  // Waits until the peer is seen so.
  bool Sees(const std::function<bool(const PeerRecord&)>& condition) const {
    const absl::Time give_up = absl::Now() + absl::Minutes(1);
    while (absl::Now() < give_up) {
      const auto record = watch.Find("node-b");
      if (record && condition(*record)) return true;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return false;
  }
  bool Sees(PeerState state) const {
    return Sees([&](const PeerRecord& record) { return record.state == state; });
  }

  NodeFacts facts{.id = "node-a", .layout = TestLayout()};
  StaticMembership membership;
  PeerWatch watch;
};

PeerWatchOptions Fast() {
  return {.interval = absl::Milliseconds(5), .timeout = absl::Seconds(20)};
}

TEST_CASE("a peer's life is followed: active, draining, gone, back with another generation") {
  Peer peer;
  peer.Start();
  const World world(peer.address(), Fast());
  REQUIRE(world.Sees(PeerState::kActive));
  CHECK(world.watch.Find("node-b")->generation == Generation{5});
  CHECK(world.watch.Find("node-b")->version == "7.7.7");
  CHECK(world.watch.peers().size() == 1);
  CHECK_FALSE(world.watch.Find("node-a").has_value());
  peer.draining = true;
  REQUIRE(world.Sees(PeerState::kDraining));
  peer.Stop();
  REQUIRE(world.Sees(PeerState::kUnreachable));
  CHECK_FALSE(world.watch.Find("node-b")->failure.empty());
  CHECK(world.watch.Find("node-b")->generation == Generation{5});
  peer.draining = false;
  peer.generation = 6;
  peer.Start(peer.address());
  REQUIRE(world.Sees(PeerState::kActive));
  CHECK(world.watch.Find("node-b")->generation == Generation{6});
}

TEST_CASE("a peer that hangs is unreachable once its time is over") {
  Peer peer;
  peer.Start();
  peer.hangs = true;
  const World world(peer.address(),
                    {.interval = absl::Milliseconds(5), .timeout = absl::Milliseconds(50)});
  CHECK(world.Sees(PeerState::kUnreachable));
  peer.hangs = false;
  CHECK(world.Sees(PeerState::kActive));
}

TEST_CASE("stopping does not wait for a peer that hangs") {
  Peer peer;
  peer.Start();
  peer.hangs = true;
  World world(peer.address(), {.interval = absl::Milliseconds(5), .timeout = absl::Hours(1)});
  while (!peer.asked) absl::SleepFor(absl::Milliseconds(1));
  world.watch.Stop();
  CHECK(world.watch.Find("node-b")->state == PeerState::kUnknown);
}

TEST_CASE("with mutual TLS the node shows its own certificate") {
  TestCertificates certificates;
  Peer peer;
  peer.Start("127.0.0.1:0", certificates.files());
  PeerWatchOptions options = Fast();
  SECTION("one of the same authority is answered") {
    certificates.Issue("node-a");
    options.tls = certificates.Files("node-a");
    const World world(peer.address(), options);
    CHECK(world.Sees(PeerState::kActive));
  }
  SECTION("plaintext is not") {
    const World world(peer.address(), options);
    CHECK(world.Sees(PeerState::kUnreachable));
  }
}

}  // namespace
}  // namespace latentd
