// A lane of its own and raw clients of it, for tests: real UCX over loopback, hand-made messages.
// The lane runs on its thread; a client runs only while the test makes it, so a client that is left
// alone is a frozen one.
#ifndef LATENTD_DAEMON_LANE_LANE_TEST_CLIENT_H_
#define LATENTD_DAEMON_LANE_LANE_TEST_CLIENT_H_

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/lane/lane.h"
#include "daemon/lane/lane_device.h"
#include "daemon/lane/make_lane.h"
#include "daemon/store/store_test_util.h"
#include "routing/assignment.h"
#include "transport/wire_build.h"
#include "transport/wire_parse.h"
#include "transport/worker.h"

namespace latentd {

inline constexpr uint64_t kTestGeneration = 0x1234;
inline constexpr uint64_t kTestEpoch = 7;
inline constexpr absl::Duration kTestPatience = absl::Seconds(60);

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

inline std::shared_ptr<Context> TestContext(const std::string& transport = "tcp") {
  setenv("UCX_NET_DEVICES", "lo", 0);
  return ValueOrDie(Context::Create({.transports = {transport}}));
}

inline std::shared_ptr<const RoutingTable> TestTable(uint64_t epoch = kTestEpoch,
                                                     std::vector<NodeId> nodes = {"node-a"}) {
  std::vector<NodeInfo> infos;
  for (const NodeId& id : nodes) {
    infos.push_back({.id = id, .control_address = id + ":7400", .capacity_bytes = 1});
  }
  return ValueOrDie(AssignSlots(Epoch{epoch}, std::move(infos), 1));
}

// On the CPU, or on the device that LATENTD_TEST_DEVICE names (tests/gpu/run.sh).
inline LaneOptions TestOptions(uint32_t pages = 64) {
  LaneOptions options;
  if (const char* device = std::getenv("LATENTD_TEST_DEVICE")) options.device = device;
  options.node_id = "node-a";
  options.generation = Generation{kTestGeneration};
  options.layout = TinyLayout();
  options.cache_bytes = pages * options.layout.page_bytes();
  return options;
}

// True once `condition` holds; false when patience runs out. `turn` is called in between.
inline bool WaitFor(const std::function<bool()>& condition, const std::function<void()>& turn = {},
                    absl::Duration patience = kTestPatience) {
  const absl::Time until = absl::Now() + patience;
  while (!condition()) {
    if (absl::Now() > until) return false;
    if (turn) {
      turn();
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return true;
}

// A running lane with a table in which its node holds every slot.
struct LaneWorld {
  explicit LaneWorld(LaneOptions options = TestOptions(), const std::string& transport = "tcp")
      : transport(transport),
        lane(ValueOrDie(Lane::Create(std::move(options), TestContext(transport)))) {
    Begin();
  }
  LaneWorld(LaneOptions options, const LaneDevice& device)
      : transport("tcp"),
        lane(ValueOrDie(MakeLane(std::move(options), TestContext(transport), device))) {
    Begin();
  }

  void Begin() {
    lane->SetDeviceLostCallback([this](absl::Status) { ++devices_lost; });
    lane->SetSessionLostCallback([this](SessionToken token, absl::Status) {
      last_lost_hi = token.hi;
      ++lost;
    });
    lane->SetTable(TestTable());
    lane->Start();
  }

  // Waits until the lane has done what was posted to it before.
  void Settle() {
    std::atomic<bool> done = false;
    lane->ListChunks("", 0, [&](ChunkListing) { done = true; });
    if (!WaitFor([&] { return done.load(); })) throw std::runtime_error("the lane hangs");
  }
  const LaneStats& stats() const { return lane->stats(); }
  bool Quiet() const {
    return stats().requests_in_flight.Get() == 0 && stats().bytes_in_flight.Get() == 0 &&
           stats().rows_queued.Get() == 0;
  }

  const std::string transport;
  std::unique_ptr<Lane> lane;
  std::atomic<int> lost = 0;
  std::atomic<int> devices_lost = 0;
  std::atomic<uint64_t> last_lost_hi = 0;
};

struct TestReply {
  ParsedReply reply;
  std::vector<std::byte> payload;

  absl::Status status() const { return reply.status(); }
  wire::Code code() const { return reply.code(); }
  std::string text() const {
    const auto* error = std::get_if<ErrorReply>(&reply.body);
    return error == nullptr ? "" : error->message;
  }
};

class TestClient {
 public:
  // Opens a session; says HELLO unless told not to.
  explicit TestClient(LaneWorld& world, bool hello = true)
      : world_(world),
        context_(TestContext(world.transport)),
        worker_(ValueOrDie(Worker::Create(context_))) {
    static std::atomic<uint64_t> next_token = 1;
    token_ = {next_token++, 99};
    layout_ = world.lane->options().layout;
    limits_ = {.geometry = layout_.geometry(),
               .format = layout_.record_format,
               .layers = layout_.layers,
               .layout_hash = ToInt(HashLayout(layout_))};
    worker_->SetHandler(wire::kReplyAm, [this](IncomingMessage m) { OnReply(std::move(m)); });
    worker_->SetHandler(wire::kRequestAm, [this](IncomingMessage m) { OnPing(m); });
    std::atomic<bool> known = false;
    world.lane->AddSession({.token = token_,
                            .client_name = "test-" + std::to_string(token_.hi),
                            .worker_address = worker_->address()},
                           [&] { known = true; });
    if (!WaitFor([&] { return known.load(); })) throw std::runtime_error("AddSession hangs");
    endpoint_ = Connect();
    if (hello && Hello().code() != wire::Code::kOk) throw std::runtime_error("no HELLO");
  }

  const Layout& layout() const { return layout_; }
  const SessionToken& token() const { return token_; }
  Worker& worker() { return *worker_; }

  wire::RequestHeader Header() {
    return {.request_id = next_id_++,
            .token_hi = token_.hi,
            .token_lo = token_.lo,
            .epoch = kTestEpoch,
            .generation = kTestGeneration,
            .layout_hash = limits_.layout_hash,
            .deadline_us = 60'000'000};
  }

  // Sends what a builder made; the payload is kept until it has left.
  uint64_t Send(const wire::RequestHeader& header, const MessageBytes& bytes,
                std::vector<std::byte> payload = {}) {
    auto kept = std::make_shared<std::vector<std::byte>>(std::move(payload));
    ++unsent_;
    endpoint_->Send(wire::kRequestAm, bytes, *kept,
                    [this, kept](const absl::Status&) { --unsent_; });
    return header.request_id;
  }
  bool Has(uint64_t id) const { return replies_.contains(id); }
  TestReply Take(uint64_t id) {
    if (!WaitFor([&] { return Has(id); }, [&] { Progress(); }))
      throw std::runtime_error("no reply");
    TestReply reply = std::move(replies_.at(id));
    replies_.erase(id);
    return reply;
  }
  void Progress() { worker_->Progress(); }
  bool Until(const std::function<bool()>& condition) {
    return WaitFor(condition, [this] { Progress(); });
  }

  TestReply Hello() {
    const auto header = Header();
    BuildHello(header, &bytes_);
    return Take(Send(header, bytes_));
  }
  // Tests change the header by `change` to make it wrong.
  using Change = std::function<void(wire::RequestHeader&)>;

  uint64_t SendPublish(uint64_t chunk, const RecordRange& range, std::vector<std::byte> records,
                       const Change& change = {}) {
    auto header = Header();
    header.payload_bytes = records.size();
    if (change) change(header);
    const ChunkId id = TinyId(chunk);
    BuildPublish(header,
                 {.chunk_hi = id.hi,
                  .chunk_lo = id.lo,
                  .first_layer = range.first_layer,
                  .layers = range.layers,
                  .first_token = range.first_token,
                  .tokens = range.tokens},
                 &bytes_);
    return Send(header, bytes_, std::move(records));
  }
  TestReply Publish(uint64_t chunk, const RecordRange& range, uint32_t seed = 0,
                    const Change& change = {}) {
    return Take(SendPublish(chunk, range, TinyRecords(layout_, range, seed), change));
  }
  TestReply Publish(uint64_t chunk, uint32_t tokens) {
    return Publish(chunk, {0, layout_.layers, 0, tokens});
  }
  TestReply Seal(uint64_t chunk, uint32_t tokens) {
    return Seal(chunk, tokens, TinyChecksum(layout_, tokens));
  }
  TestReply Seal(uint64_t chunk, uint32_t tokens, uint64_t checksum, const Change& change = {}) {
    auto header = Header();
    if (change) change(header);
    const ChunkId id = TinyId(chunk);
    BuildSeal(header,
              {.chunk_hi = id.hi, .chunk_lo = id.lo, .checksum = checksum, .tokens = tokens},
              &bytes_);
    return Take(Send(header, bytes_));
  }
  void Fill(uint64_t chunk, uint32_t tokens) {
    if (!Publish(chunk, tokens).status().ok() || !Seal(chunk, tokens).status().ok()) {
      throw std::runtime_error("cannot fill a chunk");
    }
  }

  struct Query {
    uint32_t layer = 0;
    float scale = 0.25f;
    uint32_t heads = 2;
    uint32_t tokens = 1;
    std::vector<wire::ChunkEntry> chunks;
    std::vector<wire::GroupEntry> groups;  // none: one group of all
    bool causal = false;
    uint16_t flags = wire::kOutFp32;
    std::vector<uint16_t> rows;  // none: made
  };
  static wire::ChunkEntry Entry(uint64_t chunk, uint32_t visible, uint32_t after = 0) {
    const ChunkId id = TinyId(chunk);
    return {.chunk_hi = id.hi, .chunk_lo = id.lo, .visible_tokens = visible, .tokens_after = after};
  }
  std::vector<uint16_t> Rows(const Query& query) const {
    if (!query.rows.empty()) return query.rows;
    std::vector<uint16_t> rows(uint64_t{query.tokens} * query.heads *
                               layout_.geometry().row_width());
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = static_cast<uint16_t>((i % 3 == 0 ? 0xbe00 : 0x3e00) | (i * 37 % 256));
    }
    return rows;
  }
  uint64_t SendAttend(const Query& query, const Change& change = {}) {
    const auto rows = Rows(query);
    std::vector<std::byte> payload(rows.size() * 2);
    if (!rows.empty()) std::memcpy(payload.data(), rows.data(), payload.size());
    auto header = Header();
    header.flags = query.flags;
    header.payload_bytes = payload.size();
    if (change) change(header);
    std::vector<wire::GroupEntry> groups = query.groups;
    if (groups.empty()) {
      groups.push_back({.tokens = query.tokens,
                        .chunks = static_cast<uint32_t>(query.chunks.size()),
                        .causal = query.causal});
    }
    BuildAttend(
        header,
        {.layer = query.layer, .scale = query.scale, .heads = query.heads, .tokens = query.tokens},
        groups, query.chunks, &bytes_);
    return Send(header, bytes_, std::move(payload));
  }
  TestReply Attend(const Query& query, const Change& change = {}) {
    return Take(SendAttend(query, change));
  }

  // As a slot's primary that knows it as placed since then.
  static Change AsReplica(uint64_t placed) {
    return [placed](wire::RequestHeader& header) {
      header.flags |= wire::kReplica;
      header.placed = placed;
    };
  }

  TestReply Fetch(uint64_t chunk, const RecordRange& range) {
    const auto header = Header();
    const ChunkId id = TinyId(chunk);
    BuildFetch(header,
               {id.hi, id.lo, range.first_layer, range.layers, range.first_token, range.tokens},
               &bytes_);
    return Take(Send(header, bytes_));
  }
  TestReply Pin(const std::vector<uint64_t>& chunks, uint32_t lease_ms) {
    const auto header = Header();
    BuildPin(header, lease_ms, Ids(chunks), &bytes_);
    return Take(Send(header, bytes_));
  }
  TestReply Release(const std::vector<uint64_t>& chunks) {
    const auto header = Header();
    BuildRelease(header, Ids(chunks), &bytes_);
    return Take(Send(header, bytes_));
  }
  TestReply Drop(uint64_t chunk, uint64_t placed) {
    auto header = Header();
    header.placed = placed;
    BuildDrop(header, {TinyId(chunk).hi, TinyId(chunk).lo}, &bytes_);
    return Take(Send(header, bytes_));
  }
  TestReply List(uint32_t slot, uint64_t placed, ChunkId after = {}, uint32_t limit = 100) {
    const auto header = Header();
    BuildList(header,
              {.placed = placed,
               .after_hi = after.hi,
               .after_lo = after.lo,
               .slot = slot,
               .limit = limit},
              &bytes_);
    return Take(Send(header, bytes_));
  }
  TestReply Stat(const std::vector<uint64_t>& chunks, uint16_t flags = 0) {
    auto header = Header();
    header.flags = flags;
    BuildStat(header, Ids(chunks), &bytes_);
    return Take(Send(header, bytes_));
  }
  TestReply Ping() {
    const auto header = Header();
    BuildPing(header, &bytes_);
    return Take(Send(header, bytes_));
  }
  uint64_t SendEcho(std::vector<std::byte> payload, uint64_t reply_bytes) {
    auto header = Header();
    header.payload_bytes = payload.size();
    BuildEcho(header, reply_bytes, &bytes_);
    return Send(header, bytes_, std::move(payload));
  }
  TestReply Echo(std::vector<std::byte> payload, uint64_t reply_bytes) {
    return Take(SendEcho(std::move(payload), reply_bytes));
  }
  void SendRaw(std::vector<std::byte> header, std::vector<std::byte> payload = {}) {
    auto kept = std::make_shared<std::vector<std::byte>>(std::move(payload));
    endpoint_->Send(wire::kRequestAm, header, *kept, [kept](const absl::Status&) {});
  }
  // Makes another connection and says HELLO there; gives back the one before.
  std::unique_ptr<Endpoint> Reconnect() {
    failure = absl::OkStatus();
    auto before = std::exchange(endpoint_, Connect());
    if (Hello().code() != wire::Code::kOk) throw std::runtime_error("no HELLO");
    return before;
  }
  // Answers that lie where they are, with takes_answers false; TakeLeft takes the first of them.
  size_t left() const { return left_.size(); }
  void TakeLeft() {
    const uint64_t id = left_.front();
    left_.erase(left_.begin());
    Receive(id);
    Take(id);
  }
  // As if the process had been killed: nothing is said, the connection just ends.
  void Die() {
    endpoint_.reset();
    worker_.reset();
  }

  absl::Status failure;  // of a connection
  bool answers_pings = true;
  bool takes_answers = true;  // false: those with a payload are left where they are
  int pings = 0;
  int replies_received = 0;

 private:
  std::unique_ptr<Endpoint> Connect() {
    return ValueOrDie(worker_->Connect(world_.lane->worker_address(),
                                       [this](absl::Status s) { failure = std::move(s); }));
  }
  static std::vector<wire::IdEntry> Ids(const std::vector<uint64_t>& chunks) {
    std::vector<wire::IdEntry> ids;
    for (const uint64_t n : chunks) ids.push_back({TinyId(n).hi, TinyId(n).lo});
    return ids;
  }

  void OnReply(IncomingMessage message) {
    ++replies_received;
    TestReply reply;
    reply.reply = ValueOrDie(ParseReply(message.header(), message.payload_bytes(), limits_));
    reply.payload.resize(message.payload_bytes());
    const uint64_t id = reply.reply.header.request_id;
    if (reply.payload.empty()) {
      replies_.insert_or_assign(id, std::move(reply));
      return;
    }
    auto& slot = arriving_[id];
    slot = {std::move(message), std::move(reply)};
    if (takes_answers) {
      Receive(id);
    } else {
      left_.push_back(id);
    }
  }
  void Receive(uint64_t id) {
    auto& slot = arriving_.at(id);
    slot.first.ReceiveInto(slot.second.payload.data(), [this, id](const absl::Status& status) {
      if (status.ok()) replies_.insert_or_assign(id, std::move(arriving_[id].second));
      arriving_.erase(id);
    });
  }

  void OnPing(const IncomingMessage& message) {
    const auto request = ValueOrDie(ParseRequest(message.header(), 0, limits_));
    ++pings;
    if (!answers_pings) return;
    MessageBytes bytes;
    BuildPlainReply(wire::Opcode::kPing, {.request_id = request.header.request_id}, &bytes);
    endpoint_->Send(wire::kReplyAm, bytes, {}, [](const absl::Status&) {});
  }

  LaneWorld& world_;
  Layout layout_;
  WireLimits limits_;
  SessionToken token_;
  MessageBytes bytes_;
  uint64_t next_id_ = 1;
  int unsent_ = 0;
  std::map<uint64_t, TestReply> replies_;
  std::map<uint64_t, std::pair<IncomingMessage, TestReply>> arriving_;
  std::vector<uint64_t> left_;
  std::shared_ptr<Context> context_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Endpoint> endpoint_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_LANE_TEST_CLIENT_H_
