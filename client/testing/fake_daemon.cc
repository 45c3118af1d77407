#include "client/testing/fake_daemon.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "kernels/bf16.h"
#include "proto/latentd/v1/cluster.grpc.pb.h"
#include "proto/latentd/v1/session.grpc.pb.h"
#include "routing/layout_proto.h"
#include "routing/table_proto.h"
#include "transport/wire_build.h"
#include "transport/worker.h"

namespace latentd::testing {
namespace {

using Token = std::pair<uint64_t, uint64_t>;

WireLimits Limits() {
  const Layout layout = FakeDaemon::TestLayout();
  return {.geometry = layout.geometry(), .format = layout.record_format, .layers = layout.layers};
}

}  // namespace

class FakeDaemon::Impl final : public v1::Session::Service, public v1::Cluster::Service {
 public:
  explicit Impl(FakeDaemonOptions options) : options_(std::move(options)), limits_(Limits()) {
    auto context = Context::Create({.transports = {"tcp"}});
    auto worker = context.ok() ? Worker::Create(*context) : context.status();
    if (!worker.ok()) std::abort();
    worker_ = *std::move(worker);
    worker_->SetHandler(wire::kRequestAm,
                        [this](IncomingMessage message) { OnRequest(std::move(message)); });
    worker_->SetHandler(wire::kReplyAm, [this](IncomingMessage) { ++pings_answered_; });
    thread_ = std::thread([this] { Run(); });

    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(static_cast<v1::Session::Service*>(this));
    builder.RegisterService(static_cast<v1::Cluster::Service*>(this));
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }

  ~Impl() override {
    stopping_ = true;
    server_->Shutdown(std::chrono::system_clock::now());
    thread_.join();
  }

  // --- gRPC
  grpc::Status Open(grpc::ServerContext*, const v1::OpenRequest* request,
                    v1::OpenResponse* response) override {
    const std::lock_guard lock(mutex_);
    const Token token = {++sessions_opened_, 99};
    tokens_[token] = request->worker_address();
    response->set_token_hi(token.first);
    response->set_token_lo(token.second);
    response->set_ttl_ms(options_.ttl_ms);
    response->set_node_id(options_.node);
    response->set_generation(generation_);
    v1::Lane& lane = *response->add_lanes();
    lane.set_worker_address(worker_->address());
    lane.set_device("fake");
    lane.set_cache_bytes(1);
    response->mutable_limits()->set_inflight_requests(options_.inflight_requests);
    response->mutable_limits()->set_payload_bytes_per_request(options_.payload_bytes_per_request);
    *response->mutable_layout() = ToProto(TestLayout());
    *response->mutable_table() = ToProto(*table_);
    return grpc::Status::OK;
  }

  grpc::Status Renew(grpc::ServerContext*, const v1::RenewRequest* request,
                     v1::RenewResponse* response) override {
    const std::lock_guard lock(mutex_);
    if (!tokens_.contains({request->token_hi(), request->token_lo()})) {
      return {grpc::StatusCode::NOT_FOUND, "no such session"};
    }
    response->set_ttl_ms(options_.ttl_ms);
    return grpc::Status::OK;
  }

  grpc::Status Close(grpc::ServerContext*, const v1::CloseRequest*, v1::CloseResponse*) override {
    ++sessions_closed_;
    return grpc::Status::OK;
  }

  grpc::Status GetTable(grpc::ServerContext*, const v1::GetTableRequest*,
                        v1::RoutingTable* response) override {
    const std::lock_guard lock(mutex_);
    *response = ToProto(*table_);
    return grpc::Status::OK;
  }

  grpc::Status WatchTable(grpc::ServerContext* context, const v1::WatchTableRequest* request,
                          grpc::ServerWriter<v1::RoutingTable>* writer) override {
    std::shared_ptr<const RoutingTable> written = Table();
    if (ToInt(written->epoch()) > request->known_epoch()) written = nullptr;
    while (!context->IsCancelled() && !stopping_) {
      const auto table = Table();
      if (options_.streams_tables && table != written) writer->Write(ToProto(*table));
      written = table;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return grpc::Status::OK;
  }

  std::shared_ptr<const RoutingTable> Table() {
    const std::lock_guard lock(mutex_);
    return table_;
  }

  // --- The lane's thread
  void Run() {
    while (!stopping_) {
      RunPosted();
      if (frozen_ || worker_->Progress() == 0)
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    held_.clear();
    endpoints_.clear();
    worker_.reset();
  }

  void RunPosted() {
    std::vector<std::function<void()>> work;
    {
      const std::lock_guard lock(mutex_);
      work.swap(posted_);
    }
    for (auto& item : work) item();
  }

  void OnRequest(IncomingMessage message) {
    const auto request = ParseRequest(message.header(), message.payload_bytes(), limits_);
    if (!request.ok()) return;
    ++requests_[request->header.opcode];
    const Token token = {request->header.token_hi, request->header.token_lo};
    std::string client;
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = tokens_.find(token); found != tokens_.end()) client = found->second;
    }
    MessageBytes bytes;
    wire::ReplyHeader header{.request_id = request->header.request_id, .epoch = 1};
    if (client.empty()) {
      BuildErrorReply(request->opcode(), header, absl::UnauthenticatedError("no such session"),
                      &bytes);
      worker_->ReplyAndClose(message, wire::kReplyAm, bytes);
      return;
    }
    if (request->opcode() == wire::Opcode::kHello) {
      auto endpoint = worker_->Connect(client, [](absl::Status) {});
      if (!endpoint.ok()) return;
      endpoints_[token] = *std::move(endpoint);
      BuildHelloReply(header, {.generation = generation_, .lane = 0}, &bytes);
      return SendTo(token, bytes, {});
    }
    if (request->opcode() == wire::Opcode::kPing) {
      BuildPlainReply(wire::Opcode::kPing, header, &bytes);
      return SendTo(token, bytes, {});
    }
    // Payloads must be taken, or a rendezvous sender is told of success too early.
    auto kept = std::make_shared<Kept>(
        Kept{*request, token, std::vector<std::byte>(message.payload_bytes())});
    auto shared = std::make_shared<IncomingMessage>(std::move(message));
    shared->ReceiveInto(kept->payload.data(), [this, kept, shared](absl::Status status) {
      if (!status.ok()) return;
      held_.push_back(kept);
      held_now_ = held_.size();
      most_at_once_ = std::max<uint64_t>(most_at_once_, held_.size());
      if (!hold_) AnswerHeld();
    });
  }

  void AnswerHeld() {
    std::vector<std::shared_ptr<Kept>> held;
    held.swap(held_);
    held_now_ = 0;
    for (const auto& kept : held) Answer(*kept);
  }

  struct Kept {
    ParsedRequest request;
    Token token;
    std::vector<std::byte> payload;
  };

  void Answer(const Kept& kept) {
    Script script;
    {
      const std::lock_guard lock(mutex_);
      script = script_;
    }
    FakeAnswer answer = script ? script(kept.request) : FakeAnswer{};
    wire::ReplyHeader header{.request_id = kept.request.header.request_id,
                             .epoch = answer.epoch,
                             .payload_bytes = answer.payload.size(),
                             .compute_ns = answer.compute_ns,
                             .batch_rows = answer.batch_rows,
                             .lane_rows_queued = answer.lane_rows_queued};
    MessageBytes bytes;
    if (!answer.status.ok()) {
      header.payload_bytes = 0;
      answer.payload.clear();
      BuildErrorReply(kept.request.opcode(), header, answer.status, &bytes);
    } else if (kept.request.opcode() == wire::Opcode::kAttend) {
      BuildAttendReply(header, answer.missing, &bytes);
    } else {
      BuildPlainReply(kept.request.opcode(), header, &bytes);
    }
    SendTo(kept.token, bytes, std::move(answer.payload));
  }

  void SendTo(const Token& token, std::span<const std::byte> header,
              std::vector<std::byte> payload) {
    const auto found = endpoints_.find(token);
    if (found == endpoints_.end()) return;
    auto kept = std::make_shared<std::vector<std::byte>>(std::move(payload));
    found->second->Send(wire::kReplyAm, header, *kept, [kept](absl::Status) {});
  }

  void Post(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }

  void PingAll() {
    for (const auto& [token, endpoint] : endpoints_) {
      wire::RequestHeader header{
          .request_id = 1, .token_hi = token.first, .token_lo = token.second, .deadline_us = 1};
      MessageBytes bytes;
      BuildPing(header, &bytes);
      endpoint->Send(wire::kRequestAm, bytes, {}, [](absl::Status) {});
    }
  }

  const FakeDaemonOptions options_;
  const WireLimits limits_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
  std::thread thread_;

  std::mutex mutex_;  // guards what follows, up to the blank line
  std::map<Token, std::string> tokens_;
  std::shared_ptr<const RoutingTable> table_;
  Script script_;
  std::vector<std::function<void()>> posted_;

  std::atomic<bool> stopping_ = false;
  std::atomic<bool> frozen_ = false;
  std::atomic<bool> hold_ = false;
  std::atomic<uint64_t> generation_ = 1;
  std::atomic<uint64_t> sessions_opened_ = 0;
  std::atomic<uint64_t> sessions_closed_ = 0;
  std::atomic<uint64_t> held_now_ = 0;
  std::atomic<uint64_t> most_at_once_ = 0;
  std::atomic<uint64_t> pings_answered_ = 0;
  std::array<std::atomic<uint64_t>, 16> requests_{};

  // Of the lane's thread.
  std::unique_ptr<Worker> worker_;
  std::map<Token, std::unique_ptr<Endpoint>> endpoints_;
  std::vector<std::shared_ptr<Kept>> held_;
};

FakeDaemon::FakeDaemon(FakeDaemonOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {
  SetTable(MakeTable(1, {{impl_->options_.node, impl_->address_}}, {{0}}));
}
FakeDaemon::~FakeDaemon() = default;

Layout FakeDaemon::TestLayout() {
  return {.model = "fake", .layers = 2, .latent_width = 8, .rope_width = 8};
}

const std::string& FakeDaemon::address() const { return impl_->address_; }

void FakeDaemon::SetTable(std::shared_ptr<const RoutingTable> table) {
  const std::lock_guard lock(impl_->mutex_);
  impl_->table_ = std::move(table);
}

void FakeDaemon::SetScript(Script script) {
  const std::lock_guard lock(impl_->mutex_);
  impl_->script_ = std::move(script);
}

void FakeDaemon::Freeze(bool frozen) { impl_->frozen_ = frozen; }
void FakeDaemon::Hold(bool hold) { impl_->hold_ = hold; }
void FakeDaemon::Release() {
  impl_->Post([this] { impl_->AnswerHeld(); });
}

void FakeDaemon::ForgetSessions() {
  {
    const std::lock_guard lock(impl_->mutex_);
    impl_->tokens_.clear();
    ++impl_->generation_;
  }
  impl_->Post([this] { impl_->endpoints_.clear(); });
}

void FakeDaemon::PingClients() {
  impl_->Post([this] { impl_->PingAll(); });
}
uint64_t FakeDaemon::pings_answered() const { return impl_->pings_answered_; }

uint64_t FakeDaemon::requests(wire::Opcode opcode) const {
  return impl_->requests_[static_cast<size_t>(opcode)];
}
uint64_t FakeDaemon::held() const { return impl_->held_now_; }
uint64_t FakeDaemon::most_at_once() const { return impl_->most_at_once_; }
uint64_t FakeDaemon::sessions_opened() const { return impl_->sessions_opened_; }
uint64_t FakeDaemon::sessions_closed() const { return impl_->sessions_closed_; }

std::shared_ptr<const RoutingTable> MakeTable(
    uint64_t epoch, const std::vector<std::pair<NodeId, std::string>>& nodes,
    const std::vector<std::vector<NodeIndex>>& holders) {
  RoutingTableParts parts{.epoch = static_cast<Epoch>(epoch)};
  for (const auto& [id, address] : nodes) {
    parts.nodes.push_back({.id = id, .control_address = address, .capacity_bytes = 1});
  }
  const auto each = static_cast<uint32_t>(kSlotCount / holders.size());
  for (uint32_t i = 0; i < holders.size(); ++i) {
    const uint32_t first = i * each;
    const uint32_t slots = i + 1 == holders.size() ? kSlotCount - first : each;
    parts.ranges.push_back({.first_slot = first,
                            .slots = slots,
                            .generation = Generation{1},
                            .holders = holders[i],
                            .joining = {},
                            .placed = static_cast<Epoch>(epoch)});
  }
  auto table = RoutingTable::Create(std::move(parts));
  if (!table.ok()) std::abort();
  return *table;
}

Script AnswerAttendWith(float value) {
  return [value](const ParsedRequest& request) {
    FakeAnswer answer;
    const auto* attend = std::get_if<AttendRequest>(&request.body);
    if (attend == nullptr) return answer;
    const Geometry geometry = FakeDaemon::TestLayout().geometry();
    const size_t rows = size_t{attend->attend.tokens} * attend->attend.heads;
    const size_t out_bytes = rows * geometry.latent_width * sizeof(Bf16);
    answer.payload.resize(out_bytes + rows * sizeof(float));  // log-sum-exps of 0
    const Bf16 bits = FloatToBf16(value);
    for (size_t at = 0; at < out_bytes; at += sizeof(bits))
      std::memcpy(&answer.payload[at], &bits, sizeof(bits));
    return answer;
  };
}

}  // namespace latentd::testing
