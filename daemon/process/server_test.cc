// Whole daemons inside the test, with real lanes, on ports of the system's choosing.
#include "daemon/process/server.h"

#include <grpcpp/grpcpp.h>

#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "config/loader.h"
#include "daemon/process/lanes.h"
#include "daemon/testing/fake_lane.h"
#include "daemon/testing/http_get.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "proto/latentd/v1/admin.grpc.pb.h"
#include "proto/latentd/v1/cluster.grpc.pb.h"
#include "routing/costs_proto.h"
#include "transport/wire.h"
#include "transport/worker.h"

namespace latentd {
namespace {

Config TestConfig() {
  ConfigOrFaults loaded = LoadConfig(R"(
node: { id: node-a, advertise: 127.0.0.1 }
control: { listen: "127.0.0.1:0" }
data:
  lanes: [{ device: cpu, cache: 4MiB }, { device: cpu, cache: 8MiB, threads: 0 }]
model: tiny
metrics: { listen: "127.0.0.1:0" }
)",
                                     "test.yaml");
  INFO(ToString(loaded.faults));
  REQUIRE(loaded.ok());
  return loaded.config;
}

absl::StatusOr<std::unique_ptr<Server>> TryStart(const Config& config) {
  const Generation generation = DrawGeneration();
  auto lanes = MakeLanes(config, generation);
  if (!lanes.ok()) return lanes.status();
  return Server::Start(config, generation, *std::move(lanes));
}

std::unique_ptr<Server> Start(const Config& config) {
  auto server = TryStart(config);
  INFO(server.status().message());
  REQUIRE(server.ok());
  return *std::move(server);
}

std::string Refusal(const Config& config) {
  return std::string(TryStart(config).status().message());
}

std::shared_ptr<grpc::Channel> ChannelTo(const Server& server) {
  return grpc::CreateChannel(server.control_address(), grpc::InsecureChannelCredentials());
}

bool IsServing(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckResponse response;
  const auto stub = grpc::health::v1::Health::NewStub(channel);
  return stub->Check(&context, {}, &response).ok() &&
         response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

v1::StatusResponse StatusOf(const Server& server) {
  grpc::ClientContext context;
  v1::StatusResponse response;
  REQUIRE(v1::Admin::NewStub(ChannelTo(server))->Status(&context, {}, &response).ok());
  return response;
}

TEST_CASE("a daemon that has started serves, and says where and what") {
  const Config config = TestConfig();
  const auto server = Start(config);
  CHECK(IsServing(ChannelTo(*server)));
  const v1::StatusResponse status = StatusOf(*server);
  CHECK(status.node_id() == "node-a");
  CHECK(status.state() == v1::NODE_STATE_ACTIVE);
  CHECK(status.generation() != 0);
  CHECK(status.epoch() == 1);
  CHECK(status.metrics_address() == server->metrics_address());
  REQUIRE(status.lanes_size() == 2);
  CHECK(status.lanes(0).cache_bytes() == 4 << 20);
  CHECK(status.lanes(1).pages_total() > 0);
  CHECK(status.lanes(1).pages_free() == status.lanes(1).pages_total());
  CHECK_FALSE(status.lanes(0).backend().empty());
}

TEST_CASE("the table leads to the port that the daemon really has") {
  const auto server = Start(TestConfig());
  grpc::ClientContext context;
  v1::RoutingTable table;
  REQUIRE(v1::Cluster::NewStub(ChannelTo(*server))->GetTable(&context, {}, &table).ok());
  REQUIRE(table.nodes_size() == 1);
  CHECK(table.nodes(0).control_address() == server->control_address());
  CHECK(table.nodes(0).capacity_bytes() == 12 << 20);
}

TEST_CASE("metrics tell of every lane") {
  const auto server = Start(TestConfig());
  const std::string answer = HttpGet(server->metrics_address(), "/metrics");
  CHECK(answer.find("latentd_node_state{state=\"active\"} 1") != std::string::npos);
  CHECK(answer.find("latentd_store_capacity_bytes{lane=\"1\",device=\"cpu\"} 8388608") !=
        std::string::npos);
}

TEST_CASE("metrics can be off") {
  Config config = TestConfig();
  config.metrics.listen.clear();
  const auto server = Start(config);
  CHECK(server->metrics_address().empty());
  CHECK(StatusOf(*server).metrics_address().empty());
}

TEST_CASE("a session opens on every real lane and is gone from them when it is closed") {
  const auto server = Start(TestConfig());
  const auto context = Context::Create({});
  REQUIRE(context.ok());
  const auto worker = Worker::Create(*context);
  REQUIRE(worker.ok());
  const auto stub = v1::Session::NewStub(ChannelTo(*server));
  v1::OpenRequest open;
  open.set_client_name("tester");
  open.set_worker_address((*worker)->address());
  open.set_protocol_version(wire::kVersion);
  v1::OpenResponse opened;
  {
    grpc::ClientContext call;
    REQUIRE(stub->Open(&call, open, &opened).ok());
  }
  CHECK(opened.lanes_size() == 2);
  CHECK_FALSE(opened.lanes(0).worker_address().empty());
  CHECK(opened.lanes(0).worker_address() != opened.lanes(1).worker_address());
  CHECK(StatusOf(*server).sessions() == 1);
  v1::CloseRequest close;
  close.set_token_hi(opened.token_hi());
  close.set_token_lo(opened.token_lo());
  v1::CloseResponse closed;
  grpc::ClientContext call;
  REQUIRE(stub->Close(&call, close, &closed).ok());
  CHECK(StatusOf(*server).sessions() == 0);
}

TEST_CASE("a stop ends everything at once when nothing is in flight") {
  const auto server = Start(TestConfig());
  const auto channel = ChannelTo(*server);
  grpc::ClientContext context;
  const auto watch = v1::Cluster::NewStub(channel)->WatchTable(&context, {});
  v1::RoutingTable table;
  REQUIRE(watch->Read(&table));
  const std::string metrics = server->metrics_address();
  const absl::Time began = absl::Now();
  CHECK(server->Stop(absl::Now() + absl::Minutes(5)).ok());
  CHECK(absl::Now() - began < absl::Seconds(20));
  CHECK_FALSE(watch->Read(&table));
  CHECK_FALSE(IsServing(channel));
  CHECK(HttpGet(metrics, "/metrics").empty());
}

TEST_CASE("a daemon that restarts is a new generation") {
  const uint64_t first = StatusOf(*Start(TestConfig())).generation();
  CHECK(StatusOf(*Start(TestConfig())).generation() != first);
}

TEST_CASE("addresses in use are refused by the configuration's key") {
  const auto server = Start(TestConfig());
  Config config = TestConfig();
  config.control.listen = server->control_address();
  CHECK(Refusal(config) ==
        absl::StrCat("control.listen: ", server->control_address(), ": Address already in use"));
  config = TestConfig();
  config.metrics.listen = server->metrics_address();
  CHECK(Refusal(config) ==
        absl::StrCat("metrics.listen: ", server->metrics_address(), ": Address already in use"));
}

TEST_CASE("caches that the machine does not have are refused") {
  Config config = TestConfig();
  config.data.lanes[1].cache_bytes = uint64_t{1} << 50;
  CHECK(Refusal(config).find("data.lanes: the caches in the host's memory need 1125899911036928 "
                             "bytes together, but there are ") == 0);
}

TEST_CASE("a device that is not there is refused by its lane") {
  Config config = TestConfig();
  config.data.lanes[1].device = {.kind = DeviceKind::kCuda, .index = 99};
  CHECK(Refusal(config).find("data.lanes[1] (cuda:99, cache ") == 0);
}

TEST_CASE("transports that UCX does not have are refused by the configuration's key") {
  Config config = TestConfig();
  config.data.transports = {"carrier-pigeon"};
  CHECK(Refusal(config).find("data.transports: ") == 0);
}

TEST_CASE("peers that leave this node out are refused") {
  Config config = TestConfig();
  config.membership.peers = {{.id = "node-x", .control_address = "127.0.0.1:1"}};
  CHECK(Refusal(config) == "membership.peers does not list this node, \"node-a\"");
}

TEST_CASE("TLS files that are missing are refused by the configuration's key") {
  Config config = TestConfig();
  config.control.tls =
      TlsConfig{.cert_path = "/none.pem", .key_path = "/none.key", .ca_path = "/ca"};
  CHECK(Refusal(config) == "control.tls.cert: /none.pem: No such file or directory");
}

TEST_CASE("lanes are told what the configuration says") {
  Config config = TestConfig();
  config.data.limits.inflight_per_lane = 17;
  config.data.lane.idle = LaneIdle::kSleep;
  config.data.liveness = {.ping_ms = 70, .dead_ms = 900};
  config.data.lanes[0].cpus = {0};
  const std::vector<LaneOptions> options = MakeLaneOptions(config, Generation{9});
  REQUIRE(options.size() == 2);
  CHECK(options[1].index == 1);
  CHECK(options[1].generation == Generation{9});
  CHECK(options[1].node_id == "node-a");
  CHECK(options[1].threads == 0);
  CHECK(options[0].cpus == std::vector<int>{0});
  CHECK(options[0].limits.inflight == 17);
  CHECK(options[0].idle == IdlePolicy::kSleep);
  CHECK(options[0].ping_after == absl::Milliseconds(70));
  CHECK(options[0].dead_after == absl::Milliseconds(900));
  CHECK(options[1].all_lane_cache_bytes == std::vector<uint64_t>{4 << 20, 8 << 20});
  CHECK(options[1].limits.open_bytes_per_session == 4 << 20);
  CHECK(options[0].layout == LayoutOf(config));
}

TEST_CASE("a lane cannot be bound to a CPU that the process may not run on") {
  Config config = TestConfig();
  config.data.lanes[1].cpus = {1, 77};
  CHECK(CheckCpus(config, {0, 1}).message() ==
        "data.lanes[1].cpus: this process may not run on CPU 77, only on 0,1");
  CHECK(CheckCpus(config, {0, 1, 77}).ok());
  CHECK(CheckCpus(config, {}).ok());
}

TEST_CASE("a lane that cuts requests off at the deadline is told of, and all ends nevertheless") {
  const Config config = TestConfig();
  std::vector<std::unique_ptr<Lane>> lanes;
  auto fake = std::make_unique<FakeLane>(MakeLaneOptions(config, Generation{1})[0]);
  FakeLane* lane = fake.get();
  lane->FailStop(absl::DeadlineExceededError("3 requests were cut off"));
  lanes.push_back(std::move(fake));
  auto server = Server::Start(config, Generation{1}, std::move(lanes));
  REQUIRE(server.ok());
  CHECK(lane->started());
  CHECK(lane->admitting());
  REQUIRE(lane->table() != nullptr);
  CHECK(lane->table()->epoch() == Epoch{1});
  const absl::Status stopped = (*server)->Stop(absl::Now());
  CHECK(stopped.code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(std::string(stopped.message()) == "lane 0: 3 requests were cut off");
  CHECK(lane->stopped());
  CHECK_FALSE(lane->admitting());
}

TEST_CASE("a daemon measures its lanes when asked, tells whoever asks, and has its pages back") {
  Config config = TestConfig();
  config.data.lanes[0].cache_bytes = config.data.lanes[1].cache_bytes = 64 << 20;
  config.calibration.at_start = false;
  config.calibration.longest_batch_us = 500;
  const auto server = Start(config);
  const auto channel = ChannelTo(*server);
  const v1::StatusResponse before = StatusOf(*server);
  grpc::ClientContext context;
  v1::CalibrateResponse measured;
  REQUIRE(v1::Admin::NewStub(channel)->Calibrate(&context, {}, &measured).ok());
  CHECK(measured.troubles_size() == 0);
  CHECK(measured.costs().compute_size() == 4);  // two lanes, alone and busy

  grpc::ClientContext again;
  v1::GetCostsResponse costs;
  REQUIRE(v1::Cluster::NewStub(channel)->GetCosts(&again, {}, &costs).ok());
  CHECK(costs.every_node());
  REQUIRE(costs.nodes_size() == 1);
  CHECK(costs.nodes(0).generation() == before.generation());
  const NodeCostsReading reading = FromProto(costs.nodes(0), absl::Now(), Generation{});
  CHECK(reading.quarantined.empty());
  const TimedTable& table = reading.costs.compute.Compute(config.record, ComputeRegime::kLatency);
  CHECK(table.state == ConstantState::kMeasured);
  CHECK(table.table.UsAt(4096, 8192) > table.table.UsAt(16, 64));
  const v1::StatusResponse after = StatusOf(*server);
  for (int i = 0; i < 2; ++i) {
    CHECK(after.lanes(i).pages_free() == before.lanes(i).pages_free());
    CHECK(after.lanes(i).chunks_open() + after.lanes(i).chunks_sealed() == 0);
  }
}

}  // namespace
}  // namespace latentd
