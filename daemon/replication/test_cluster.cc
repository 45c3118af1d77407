#include "daemon/replication/test_cluster.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "config/loader.h"
#include "kernels/bf16.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

Config ConfigOf(const std::string& id, uint32_t replicas, const std::string& more) {
  ConfigOrFaults loaded = LoadConfig(absl::StrCat("node: { id: ", id, ", advertise: 127.0.0.1 }\n",
                                                  R"(
control: { listen: "127.0.0.1:0" }
data:
  transports: [tcp]
  lanes: [{ device: cpu, cache: 64MiB, threads: 0 }]
  liveness: { ping_ms: 200, dead_ms: 1000 }
model: tiny
metrics: { listen: off }
log: { level: warn }
)",
                                                  more),
                                     "test.yaml");
  INFO(ToString(loaded.faults));
  REQUIRE(loaded.ok());
  loaded.config.replicas = replicas;
  return loaded.config;
}

}  // namespace

void WaitFor(const std::string& what, const std::function<bool()>& condition) {
  const absl::Time give_up = absl::Now() + absl::Seconds(60);
  while (!condition()) {
    if (absl::Now() > give_up) FAIL("waited in vain: " << what);
    absl::SleepFor(absl::Milliseconds(5));
  }
}

TestCluster::~TestCluster() {
  for (auto& [id, node] : nodes_) Stop(id);
}

void TestCluster::Add(const std::string& id, const std::string& more) {
  const Config config = ConfigOf(id, replicas_, more);
  const Generation generation = DrawGeneration();
  Node& node = nodes_[id];
  node.member = std::make_shared<TestMember>();
  auto parts = MakeParts(config, generation, std::make_unique<TestMembership>(node.member));
  INFO(parts.status().ToString());
  REQUIRE(parts.ok());
  auto server = Server::Start(config, generation, *std::move(parts));
  INFO(server.status().ToString());
  REQUIRE(server.ok());
  node.server = *std::move(server);
}

bool TestCluster::NextEpoch() {
  PlacementInput input{.nodes = {}, .replicas = replicas_, .in_sync = {}};
  for (auto& [id, node] : nodes_) {
    const std::lock_guard<std::mutex> lock(node.member->mutex);
    NodeInfo info = node.member->self;
    info.state = node.member->draining ? NodeState::kDraining : NodeState::kActive;
    input.nodes.push_back(std::move(info));
  }
  const std::vector<NodeInfo> nodes = input.nodes;
  input.in_sync = [&](NodeIndex node, Slot slot, Epoch placed) {
    TestMember& member = *nodes_.at(nodes[node].id).member;
    const std::lock_guard<std::mutex> lock(member.mutex);
    const auto claim = member.claims.find(slot);
    return claim != member.claims.end() && claim->second == placed;
  };
  const auto next = NextTable(table_, std::move(input));
  INFO(next.status().ToString());
  REQUIRE(next.ok());
  if (*next == table_) return false;
  table_ = *next;
  for (auto& [id, node] : nodes_) {
    if (node.server == nullptr) continue;
    node.member->Deliver(table_);
  }
  return true;
}

void TestCluster::Settle() {
  NextEpoch();
  WaitFor("nothing moves any more", [&] {
    for (auto& [id, node] : nodes_) {
      if (node.server != nullptr && !ClaimedAll(id)) return false;
    }
    return !NextEpoch();
  });
}

void TestCluster::Stop(const std::string& id) {
  Node& node = nodes_.at(id);
  if (node.server != nullptr) (void)node.server->Stop(absl::Now());
  node.server.reset();
}

void TestCluster::Forget(const std::string& id) { nodes_.erase(id); }

void TestCluster::Drain(const std::string& id) {
  grpc::ClientContext context;
  v1::DrainResponse response;
  REQUIRE(AdminOf(id)->Drain(&context, {}, &response).ok());
  CHECK(response.hands_over());
}

std::unique_ptr<Client> TestCluster::Connect(const std::string& id) const {
  auto client = Client::Connect({.endpoints = {nodes_.at(id).server->control_address()},
                                 .client_name = "test",
                                 .transports = {"tcp"}});
  INFO(client.status().ToString());
  REQUIRE(client.ok());
  return *std::move(client);
}

std::unique_ptr<v1::Admin::Stub> TestCluster::AdminOf(const std::string& id) const {
  return v1::Admin::NewStub(grpc::CreateChannel(nodes_.at(id).server->control_address(),
                                                grpc::InsecureChannelCredentials()));
}

v1::StatusResponse TestCluster::StatusOf(const std::string& id) const {
  grpc::ClientContext context;
  v1::StatusResponse response;
  REQUIRE(AdminOf(id)->Status(&context, {}, &response).ok());
  return response;
}

std::optional<v1::Chunk> TestCluster::ChunkOn(const std::string& id, const ChunkId& chunk) const {
  grpc::ClientContext context;
  v1::ChunksRequest request;
  request.set_prefix(ToString(chunk));
  v1::ChunksResponse response;
  REQUIRE(AdminOf(id)->Chunks(&context, request, &response).ok());
  if (response.chunks_size() == 0) return std::nullopt;
  return response.chunks(0);
}

std::vector<MissedWrite> TestCluster::MissedSaidBy(const std::string& id) const {
  TestMember& member = *nodes_.at(id).member;
  const std::lock_guard<std::mutex> lock(member.mutex);
  return member.missed;
}

bool TestCluster::ClaimedAll(const std::string& id) { return nodes_.at(id).member->ClaimedAll(); }

TestChunk::TestChunk(const Layout& layout, uint64_t seed, uint32_t token_count)
    : layers(layout.layers), tokens(token_count) {
  std::mt19937_64 random(seed);
  id = {.hi = random(), .lo = random()};
  records.resize(uint64_t{layers} * tokens * layout.record_bytes());
  std::vector<Bf16> values(records.size() / sizeof(Bf16));
  for (Bf16& value : values) {
    value = FloatToBf16(static_cast<float>(random() % 2000) / 1000.0f - 1.0f);
  }
  std::memcpy(records.data(), values.data(), records.size());
  checksum = RangeChecksum(records, layout.record_bytes(), 0, layers, 0, tokens);
}

std::span<const std::byte> TestChunk::Layer(uint32_t layer, uint32_t count) const {
  const uint64_t record_bytes = records.size() / layers / tokens;
  return std::span(records).subspan(uint64_t{layer} * tokens * record_bytes, count * record_bytes);
}

absl::Status PublishAndSeal(Client& client, const TestChunk& chunk) {
  if (absl::Status s = client.Publish(
          {.chunk = chunk.id, .layers = chunk.layers, .tokens = chunk.tokens}, chunk.records);
      !s.ok()) {
    return s;
  }
  return client.Seal(chunk.id, chunk.tokens, chunk.checksum);
}

absl::Status FetchAndCompare(Client& client, const TestChunk& chunk) {
  std::vector<std::byte> records(chunk.records.size());
  if (absl::Status s = client.Fetch(
          {.chunk = chunk.id, .layers = chunk.layers, .tokens = chunk.tokens}, records);
      !s.ok()) {
    return s;
  }
  return records == chunk.records ? absl::OkStatus() : absl::DataLossError("other records");
}

}  // namespace latentd
