// The three services over a real gRPC server on loopback, with lanes that are fakes.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>
#include <thread>

#include "absl/time/clock.h"
#include "daemon/membership/static_membership.h"
#include "daemon/services/admin_service.h"
#include "daemon/services/cluster_service.h"
#include "daemon/services/control_server.h"
#include "daemon/services/session_service.h"
#include "daemon/testing/fake_lane.h"
#include "routing/assignment.h"
#include "routing/layout_proto.h"
#include "routing/table_delta.h"
#include "routing/table_proto.h"
#include "transport/wire.h"

namespace latentd {
namespace {

Layout TestLayout() {
  Layout layout;
  layout.model = "test-model";
  layout.layers = 2;
  return layout;
}

LaneOptions Options(uint32_t index) {
  LaneOptions options;
  options.index = index;
  options.cache_bytes = 1000 + index;
  options.limits.rows_per_request = 321;
  options.limits.work_per_request = 1000 - index;
  return options;
}

// A static list that may claim to have an authority.
class TestMembership : public StaticMembership {
 public:
  using StaticMembership::StaticMembership;
  std::optional<AuthorityStatus> authority() const override { return stands; }
  TablePtr table() const override { return says == nullptr ? StaticMembership::table() : says; }

  std::vector<v1::NodeCosts> costs() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return costs_;
  }
  void SetCosts(std::vector<v1::NodeCosts> costs) {
    const std::lock_guard<std::mutex> lock(mutex_);
    costs_ = std::move(costs);
  }

  std::optional<AuthorityStatus> stands;
  TablePtr says;  // null: what the list says

 private:
  mutable std::mutex mutex_;
  std::vector<v1::NodeCosts> costs_;
};

// One daemon's control plane without the rest of the daemon.
struct World {
  explicit World(bool with_table = true, SessionRules rules = {})
      : registry(rules, {&lane0, &lane1}) {
    auto started = ControlServer::Start({}, {&session_service, &cluster_service, &admin_service});
    REQUIRE(started.ok());
    server = *std::move(started);
    channel = grpc::CreateChannel(server->address(), grpc::InsecureChannelCredentials());
    sessions = v1::Session::NewStub(channel);
    cluster = v1::Cluster::NewStub(channel);
    admin = v1::Admin::NewStub(channel);
    if (with_table) {
      REQUIRE(membership
                  .Start({.id = "node-a",
                          .control_address = server->address(),
                          .generation = Generation{55},
                          .capacity_bytes = 2001},
                         [this](const TablePtr& table) { streams.Publish(table); })
                  .ok());
      lifecycle.Ready();
    }
  }
  ~World() {
    streams.Close();
    server->Shutdown(absl::Now());
  }

  v1::OpenRequest GoodRequest() const {
    v1::OpenRequest request;
    request.set_client_name("tester");
    request.set_worker_address("client-worker");
    request.set_protocol_version(wire::kVersion);
    request.set_layout_hash(ToInt(HashLayout(facts.layout)));
    return request;
  }
  grpc::Status Open(const v1::OpenRequest& request, v1::OpenResponse* response) const {
    grpc::ClientContext context;
    return sessions->Open(&context, request, response);
  }

  FakeLane lane0{Options(0)};
  FakeLane lane1{Options(1)};
  NodeFacts facts{.id = "node-a",
                  .generation = Generation{55},
                  .layout = TestLayout(),
                  .version = "1.2.3",
                  .started = absl::Now(),
                  .cuda = "none"};
  TestMembership membership{{.version = "1.2.3"}};
  TableStreams streams;
  SessionRegistry registry;
  Lifecycle lifecycle{
      {&lane0, &lane1}, &membership, [this](bool serving) { server->SetServing(serving); }};
  SessionService session_service{&facts, {&lane0, &lane1}, &registry, &streams};
  PeerWatch peers{&facts, &membership, {}};
  Calibrator calibration{{.self = "node-a", .generation = Generation{55}, .at_start = false},
                          {&lane0, &lane1},
                          &membership,
                          [] { return std::vector<LinkPeer>(); }};
  ClusterService cluster_service{&facts, &membership, &streams, &peers, &calibration};
  ReplicationSnapshot replication{.standing = {.primary = 3, .held = 5, .joining = 2}};
  AdminService admin_service{
      &facts, {&lane0, &lane1}, &registry, &membership, &lifecycle, &calibration, [this] {
        return replication;
      }};

  std::unique_ptr<ControlServer> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Session::Stub> sessions;
  std::unique_ptr<v1::Cluster::Stub> cluster;
  std::unique_ptr<v1::Admin::Stub> admin;
};

template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

TEST_CASE("opening a session answers with everything that a frontend needs") {
  const World world;
  v1::OpenResponse response;
  REQUIRE(world.Open(world.GoodRequest(), &response).ok());
  const SessionToken token{.hi = response.token_hi(), .lo = response.token_lo()};
  REQUIRE(world.lane1.sessions().size() == 1);
  CHECK(world.lane1.sessions()[0].token == token);
  CHECK(world.lane1.sessions()[0].worker_address == "client-worker");
  CHECK(response.node_id() == "node-a");
  CHECK(response.generation() == 55);
  CHECK(response.tenant() == "default");
  CHECK(response.ttl_ms() == 30'000);
  CHECK(response.protocol_version() == wire::kVersion);
  REQUIRE(response.lanes_size() == 2);
  CHECK(response.lanes(1).worker_address() == "worker-1");
  CHECK(response.lanes(1).cache_bytes() == 1001);
  CHECK(response.limits().rows_per_request() == 321);
  CHECK(response.limits().work_per_request() == 999);  // what each lane takes
  CHECK(response.limits().max_lease_ms() == 600'000);
  CHECK(*FromProto(response.layout()) == world.facts.layout);
  CHECK((*FromProto(response.table()))->ToParts() == world.membership.table()->ToParts());
}

TEST_CASE("a client with another layout is refused by the fields that differ") {
  const World world;
  Layout other = TestLayout();
  other.layers = 3;
  other.record_format = RecordFormat::kFp8;
  v1::OpenRequest request = world.GoodRequest();
  request.set_layout_hash(ToInt(HashLayout(other)));
  *request.mutable_layout() = ToProto(other);
  v1::OpenResponse response;
  const grpc::Status status = world.Open(request, &response);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(
      status.error_message().find("node \"node-a\" has layers 2 instead of 3, record bf16 instead "
                                  "of fp8: ") != std::string::npos);
  for (const LayoutHash hash : {HashLayout(other), HashLayout(world.facts.layout)}) {
    CHECK(status.error_message().find(ToString(hash)) != std::string::npos);
  }
  CHECK(world.lane0.sessions().empty());
}

TEST_CASE("a client that knows only another layout's hash is told both hashes") {
  const World world;
  v1::OpenRequest request = world.GoodRequest();
  request.set_layout_hash(0xabcdef);
  v1::OpenResponse response;
  const grpc::Status status = world.Open(request, &response);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  for (const std::string& part :
       {std::string("0000000000abcdef"), ToString(HashLayout(world.facts.layout)),
        std::string("test-model")}) {
    CHECK(status.error_message().find(part) != std::string::npos);
  }
  CHECK(world.lane0.sessions().empty());
}

TEST_CASE("a client that takes any layout is served") {
  const World world;
  v1::OpenRequest request = world.GoodRequest();
  request.set_layout_hash(0);
  v1::OpenResponse response;
  CHECK(world.Open(request, &response).ok());
}

TEST_CASE("requests to open that cannot be served are refused by the field at fault") {
  const World world;
  v1::OpenResponse response;
  v1::OpenRequest request = world.GoodRequest();
  request.set_protocol_version(wire::kVersion + 1);
  CHECK(world.Open(request, &response).error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  request = world.GoodRequest();
  request.clear_worker_address();
  grpc::Status status = world.Open(request, &response);
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(status.error_message().find("worker_address") == 0);
  request.set_worker_address(std::string(65 << 10, 'x'));
  CHECK(world.Open(request, &response).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  request = world.GoodRequest();
  request.set_client_name(std::string(300, 'x'));
  status = world.Open(request, &response);
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(status.error_message().find("client_name") == 0);
}

TEST_CASE("a request beyond the message limit is refused") {
  const World world;
  v1::OpenRequest request = world.GoodRequest();
  request.set_worker_address(std::string(2 << 20, 'x'));
  v1::OpenResponse response;
  CHECK(world.Open(request, &response).error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_CASE("a session can be renewed until it is closed") {
  const World world;
  v1::OpenResponse opened;
  REQUIRE(world.Open(world.GoodRequest(), &opened).ok());
  v1::RenewRequest renew;
  renew.set_token_hi(opened.token_hi());
  renew.set_token_lo(opened.token_lo());
  v1::RenewResponse renewed;
  {
    grpc::ClientContext context;
    REQUIRE(world.sessions->Renew(&context, renew, &renewed).ok());
    CHECK(renewed.ttl_ms() == 30'000);
  }
  {
    grpc::ClientContext context;
    v1::CloseRequest close;
    close.set_token_hi(opened.token_hi());
    close.set_token_lo(opened.token_lo());
    v1::CloseResponse closed;
    REQUIRE(world.sessions->Close(&context, close, &closed).ok());
    CHECK(world.lane0.sessions().empty());
  }
  grpc::ClientContext context;
  CHECK(world.sessions->Renew(&context, renew, &renewed).error_code() ==
        grpc::StatusCode::NOT_FOUND);
}

TEST_CASE("too many sessions are refused by the limit's name") {
  const World world(true, {.max_sessions = 1});
  v1::OpenResponse response;
  REQUIRE(world.Open(world.GoodRequest(), &response).ok());
  const grpc::Status status = world.Open(world.GoodRequest(), &response);
  CHECK(status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(status.error_message().find("data.limits.sessions") != std::string::npos);
}

TEST_CASE("nodes of the table have sessions beyond the limit, others are told to come again") {
  const World world(true, {.max_sessions = 1});
  v1::OpenResponse response;
  REQUIRE(world.Open(world.GoodRequest(), &response).ok());
  v1::OpenRequest request = world.GoodRequest();
  request.set_peer_node("node-x");
  const grpc::Status unknown = world.Open(request, &response);
  CHECK(unknown.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(unknown.error_message().find("node-x") != std::string::npos);
  request.set_peer_node("node-a");
  REQUIRE(world.Open(request, &response).ok());
  const auto sessions = world.lane0.sessions();
  CHECK(std::count_if(sessions.begin(), sessions.end(), [](const SessionGrant& session) {
          return session.peer_node == "node-a";
        }) == 1);
}

TEST_CASE(
    "a second daemon of an id opens no session, and counts none of the id's slots as its own") {
  World world;
  const auto asked = [&] {
    grpc::ClientContext context;
    v1::StatusResponse status;
    REQUIRE(world.admin->Status(&context, {}, &status).ok());
    return status.replication();
  };
  CHECK(asked().slots_held() == 5);
  const NodeInfo other{.id = "node-a",
                       .control_address = "elsewhere:7400",
                       .generation = Generation{0xabc},
                       .capacity_bytes = 1};
  world.membership.says = AssignSlots(Epoch{2}, {other}, 1).value();
  world.streams.Publish(world.membership.says);
  v1::OpenResponse response;
  const grpc::Status refused = world.Open(world.GoodRequest(), &response);
  CHECK(refused.error_code() == grpc::StatusCode::UNAVAILABLE);
  for (const std::string part :
       {"\"node-a\"", "elsewhere:7400", "generation 0000000000000abc", "0000000000000037"}) {
    CHECK(refused.error_message().find(part) != std::string::npos);
  }
  CHECK(world.lane0.sessions().empty());
  CHECK(asked().slots_primary() == 0);
  CHECK(asked().slots_held() == 0);
  CHECK(asked().slots_joining() == 0);
}

TEST_CASE("without a table, sessions and tables are unavailable and the node says who it is") {
  const World world(false);
  v1::OpenResponse opened;
  CHECK(world.Open(world.GoodRequest(), &opened).error_code() == grpc::StatusCode::UNAVAILABLE);
  grpc::ClientContext context;
  v1::RoutingTable table;
  const grpc::Status status = world.cluster->GetTable(&context, {}, &table);
  CHECK(status.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(status.error_message().find("node-a") != std::string::npos);
}

TEST_CASE("the table and the nodes can be asked for") {
  const World world;
  {
    grpc::ClientContext context;
    v1::RoutingTable table;
    REQUIRE(world.cluster->GetTable(&context, {}, &table).ok());
    CHECK((*FromProto(table))->ToParts() == world.membership.table()->ToParts());
  }
  grpc::ClientContext context;
  v1::ListNodesResponse nodes;
  REQUIRE(world.cluster->ListNodes(&context, {}, &nodes).ok());
  REQUIRE(nodes.nodes_size() == 1);
  CHECK(nodes.nodes(0).id() == "node-a");
  CHECK(nodes.nodes(0).generation() == 55);
  CHECK(nodes.nodes(0).state() == v1::NODE_STATE_ACTIVE);
  CHECK(nodes.nodes(0).version() == "1.2.3");
}

TEST_CASE("a watch gets the table it lacks, then every newer one") {
  World world;
  grpc::ClientContext context;
  const auto watch = world.cluster->WatchTable(&context, {});
  v1::RoutingTable table;
  REQUIRE(watch->Read(&table));
  CHECK(table.epoch() == 1);
  const auto next =
      AssignSlots(Epoch{2}, {{.id = "node-a", .control_address = "x:1", .capacity_bytes = 1}}, 1);
  REQUIRE(next.ok());
  world.streams.Publish(*next);
  REQUIRE(watch->Read(&table));
  CHECK(table.epoch() == 2);
  context.TryCancel();
  CHECK(watch->Finish().error_code() == grpc::StatusCode::CANCELLED);
  CHECK(Eventually([&] { return world.streams.count() == 0; }));
}

TEST_CASE("a watch by a client that is up to date starts with the next table") {
  World world;
  grpc::ClientContext context;
  v1::WatchTableRequest request;
  request.set_known_epoch(1);
  const auto watch = world.cluster->WatchTable(&context, request);
  REQUIRE(Eventually([&] { return world.streams.count() == 1; }));
  const auto next =
      AssignSlots(Epoch{2}, {{.id = "node-a", .control_address = "x:1", .capacity_bytes = 1}}, 1);
  world.streams.Publish(*next);
  v1::RoutingTable table;
  REQUIRE(watch->Read(&table));
  CHECK(table.epoch() == 2);
  context.TryCancel();
}

TEST_CASE("a watch that understands deltas gets what has changed since what it has") {
  World world;
  const NodeInfo a{.id = "node-a", .control_address = "x:1", .capacity_bytes = 1};
  const NodeInfo b{.id = "node-b", .control_address = "x:2", .capacity_bytes = 1};
  const auto first = AssignSlots(Epoch{2}, {a}, 1).value();
  const auto second = AssignSlots(Epoch{3}, {a, b}, 1).value();
  world.streams.Publish(first);
  v1::WatchTableRequest request;
  request.set_deltas(true);
  v1::RoutingTable message;

  SECTION("from what the stream sent before") {
    grpc::ClientContext context;
    const auto watch = world.cluster->WatchTable(&context, request);
    REQUIRE(watch->Read(&message));
    CHECK(message.base_epoch() == 0);
    world.streams.Publish(second);
    REQUIRE(watch->Read(&message));
    CHECK(message.base_epoch() == 2);
    CHECK(ApplyDelta(*first, message).value()->ToParts() == second->ToParts());
    context.TryCancel();
  }
  SECTION("from what it says that it has, if that is one of the last tables") {
    world.streams.Publish(second);
    request.set_known_epoch(2);
    request.set_known_hash(HashTable(*first));
    grpc::ClientContext context;
    const auto watch = world.cluster->WatchTable(&context, request);
    REQUIRE(watch->Read(&message));
    CHECK(message.base_epoch() == 2);
    context.TryCancel();
  }
  SECTION("a table of that epoch that was another is no base") {
    world.streams.Publish(second);
    request.set_known_epoch(2);
    request.set_known_hash(HashTable(*AssignSlots(Epoch{2}, {b}, 1).value()));
    grpc::ClientContext context;
    const auto watch = world.cluster->WatchTable(&context, request);
    REQUIRE(watch->Read(&message));
    CHECK(message.base_epoch() == 0);
    context.TryCancel();
  }
}

TEST_CASE("watches end at once when the daemon stops, and none can begin") {
  World world;
  grpc::ClientContext context;
  const auto watch = world.cluster->WatchTable(&context, {});
  v1::RoutingTable table;
  REQUIRE(watch->Read(&table));
  const absl::Time begin = absl::Now();
  world.streams.Close();
  CHECK_FALSE(watch->Read(&table));
  CHECK(watch->Finish().error_code() == grpc::StatusCode::UNAVAILABLE);
  grpc::ClientContext late_context;
  const auto late = world.cluster->WatchTable(&late_context, {});
  CHECK(late->Finish().error_code() == grpc::StatusCode::UNAVAILABLE);
  world.server->Shutdown(absl::Now() + absl::Seconds(30));
  CHECK(absl::Now() - begin < absl::Seconds(10));
}

TEST_CASE("status tells what the node is and what each lane does") {
  World world;
  world.lane1.mutable_stats().pages_total.Set(100);
  world.lane1.mutable_stats().pages_free.Set(60);
  world.lane1.mutable_stats().requests[static_cast<size_t>(wire::Opcode::kAttend)].Set(7);
  world.lane1.mutable_stats().replies_by_code[0].Set(1000);
  world.lane1.mutable_stats().replies_by_code[5].Set(2);
  world.lane1.mutable_stats().malformed_messages.Set(1);
  world.admin_service.SetMetricsAddress("127.0.0.1:7401");
  grpc::ClientContext context;
  v1::StatusResponse status;
  REQUIRE(world.admin->Status(&context, {}, &status).ok());
  CHECK(status.node_id() == "node-a");
  CHECK(status.version() == "1.2.3");
  CHECK(status.generation() == 55);
  CHECK(status.state() == v1::NODE_STATE_ACTIVE);
  CHECK(status.epoch() == 1);
  CHECK(status.membership() == "static");
  CHECK(status.layout().model() == "test-model");
  CHECK(status.metrics_address() == "127.0.0.1:7401");
  REQUIRE(status.lanes_size() == 2);
  CHECK(status.lanes(1).backend() == "fake");
  CHECK(status.lanes(1).transports() == "fake/lo");
  CHECK(status.lanes(1).pages_total() == 100);
  CHECK(status.lanes(1).pages_free() == 60);
  CHECK(status.lanes(1).attend_requests() == 7);
  CHECK(status.lanes(1).errors() == 3);
}

TEST_CASE("status tells how the node stands with an authority, if there is one") {
  World world;
  const auto ask = [&] {
    grpc::ClientContext context;
    v1::StatusResponse status;
    REQUIRE(world.admin->Status(&context, {}, &status).ok());
    return status;
  };
  CHECK_FALSE(ask().has_authority());
  world.membership.stands = AuthorityStatus{.registered = true,
                                            .lease = 77,
                                            .serves_for = absl::Milliseconds(1234),
                                            .coordinator = "node-b",
                                            .troubles = {"the first", "the second"}};
  const v1::AuthorityStatus unknown = ask().authority();
  CHECK(unknown.coordinator() == "node-b");
  CHECK(unknown.coordinator_since_unix_ms() == 0);
  CHECK_FALSE(unknown.coordinates());
  CHECK(unknown.registered());
  CHECK(unknown.lease() == 77);
  CHECK(unknown.serves_for_ms() == 1234);
  REQUIRE(unknown.troubles_size() == 2);
  CHECK(unknown.troubles(1) == "the second");
  world.membership.stands->coordinator_since = absl::FromUnixMillis(5000);
  CHECK(ask().authority().coordinator_since_unix_ms() == 5000);
}

TEST_CASE("a node that is not ready yet says so instead of a status") {
  const World world(false);
  grpc::ClientContext context;
  v1::StatusResponse response;
  const grpc::Status status = world.admin->Status(&context, {}, &response);
  CHECK(status.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(status.error_message().find("node-a") != std::string::npos);
}

TEST_CASE("chunks of all lanes come as one ordered listing, cut at the limit") {
  World world;
  const auto chunk = [](uint64_t hi) {
    return ChunkInfo{.id = {.hi = hi << 48, .lo = 1}, .tokens = 64};
  };
  world.lane0.SetChunks({chunk(0xa1), chunk(0xc3)});
  world.lane1.SetChunks({chunk(0xa2), chunk(0xb1)});
  v1::ChunksResponse response;
  const auto list = [&](const std::string& prefix, uint32_t limit) {
    grpc::ClientContext context;
    v1::ChunksRequest request;
    request.set_prefix(prefix);
    request.set_limit(limit);
    return world.admin->Chunks(&context, request, &response);
  };
  REQUIRE(list("", 3).ok());
  CHECK(response.total() == 4);
  CHECK(response.more());
  REQUIRE(response.chunks_size() == 3);
  CHECK(response.chunks(0).id().substr(0, 4) == "00a1");
  CHECK(response.chunks(1).id().substr(0, 4) == "00a2");
  CHECK(response.chunks(1).lane() == 1);
  CHECK(response.chunks(2).id().substr(0, 4) == "00b1");
  REQUIRE(list("00A", 0).ok());
  CHECK(response.chunks_size() == 2);
  CHECK_FALSE(response.more());
  CHECK_FALSE(response.has_total());
  CHECK(list("xyz", 0).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(list("", 1'000'000).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_CASE("an operator drains and resumes the node") {
  World world;
  world.lane0.mutable_stats().requests_in_flight.Set(5);
  {
    grpc::ClientContext context;
    v1::DrainResponse response;
    REQUIRE(world.admin->Drain(&context, {}, &response).ok());
    CHECK(response.requests_in_flight() == 5);
    CHECK_FALSE(world.lane0.admitting());
  }
  // A draining node still lets others in: they may have to fetch what it holds.
  v1::OpenResponse opened;
  CHECK(world.Open(world.GoodRequest(), &opened).ok());
  grpc::ClientContext context;
  v1::ResumeResponse response;
  REQUIRE(world.admin->Resume(&context, {}, &response).ok());
  CHECK(world.lane0.admitting());
}

TEST_CASE("reflection lists every service") {
  const World world;
  // ServerReflectionRequest{list_services: ""}, by hand: the generated code is inside gRPC's
  // library.
  const grpc::Slice bytes(std::string("\x3a\x00", 2));
  const grpc::ByteBuffer request(&bytes, 1);
  grpc::GenericStub stub(world.channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  void* tag = nullptr;
  bool ok = false;
  const auto next = [&] { return queue.Next(&tag, &ok) && ok; };
  grpc::ByteBuffer response;
  call->StartCall(nullptr);
  REQUIRE(next());
  call->Write(request, nullptr);
  REQUIRE(next());
  call->Read(&response, nullptr);
  REQUIRE(next());
  std::vector<grpc::Slice> slices;
  REQUIRE(response.Dump(&slices).ok());
  std::string text;
  for (const grpc::Slice& slice : slices)
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  for (const char* service :
       {"latentd.v1.Session", "latentd.v1.Cluster", "latentd.v1.Admin", "grpc.health.v1.Health"}) {
    CHECK(text.find(service) != std::string::npos);
  }
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
}

TEST_CASE("reflection streams that are held keep nobody from being answered") {
  const World world;
  v1::OpenResponse opened;
  REQUIRE(world.Open(world.GoodRequest(), &opened).ok());

  grpc::GenericStub stub(world.channel);
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::GenericClientAsyncReaderWriter>> streams;
  void* tag = nullptr;
  bool ok = false;
  for (int i = 0; i < 70; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(
        stub.PrepareCall(contexts.back().get(),
                         "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue));
    streams.back()->StartCall(nullptr);
    REQUIRE(queue.Next(&tag, &ok));
  }

  v1::RenewRequest renew;
  renew.set_token_hi(opened.token_hi());
  renew.set_token_lo(opened.token_lo());
  for (int i = 0; i < 10; ++i) {
    grpc::ClientContext renewing;
    v1::RenewResponse renewed;
    CHECK(world.sessions->Renew(&renewing, renew, &renewed).ok());
    grpc::ClientContext asking;
    v1::StatusResponse status;
    CHECK(world.admin->Status(&asking, {}, &status).ok());
    v1::OpenResponse another;
    CHECK(world.Open(world.GoodRequest(), &another).ok());
  }
  grpc::Status ended;
  for (size_t i = 0; i < streams.size(); ++i) {
    contexts[i]->TryCancel();
    streams[i]->Finish(&ended, nullptr);
    queue.Next(&tag, &ok);
  }
}

TEST_CASE("what nodes have measured is told to whoever asks, and what is absurd is named") {
  World world(true);
  v1::NodeCosts other;
  other.set_node_id("node-b");
  other.add_links()->set_peer("node-a");
  other.mutable_links(0)->set_probe_us(-3);
  world.membership.SetCosts({other});

  grpc::ClientContext all;
  v1::GetCostsResponse costs;
  REQUIRE(world.cluster->GetCosts(&all, {}, &costs).ok());
  REQUIRE(costs.nodes_size() == 1);  // node-a has measured nothing
  CHECK(costs.nodes(0).node_id() == "node-b");

  grpc::ClientContext some;
  v1::GetCostsRequest request;
  request.add_node_ids("node-a");
  REQUIRE(world.cluster->GetCosts(&some, request, &costs).ok());
  CHECK(costs.nodes_size() == 0);

  grpc::ClientContext admin;
  v1::CostsResponse seen;
  REQUIRE(world.admin->Costs(&admin, {}, &seen).ok());
  CHECK(seen.nodes_size() == 1);
  CHECK_FALSE(seen.calibrating());
  REQUIRE(seen.quarantined_size() == 1);
  CHECK(seen.quarantined(0).find("node-b to node-a: constant probe is -3") != std::string::npos);
}

TEST_CASE("a calibration that is asked for ends, and says what it could not measure") {
  World world(true);
  world.calibration.Start();
  grpc::ClientContext context;
  v1::CalibrateResponse response;
  REQUIRE(world.admin->Calibrate(&context, {}, &response).ok());
  CHECK(response.costs().compute_size() == 0);  // these lanes cannot
  REQUIRE(response.troubles_size() == 2);
  CHECK(response.troubles(0).find("lane 0: ") == 0);
  world.calibration.Stop();
  grpc::ClientContext late;
  CHECK(world.admin->Calibrate(&late, {}, &response).error_code() == grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace latentd
