#include "client/peer_client.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "client/channel.h"
#include "client/clock.h"
#include "client/data_path.h"
#include "client/deadlines.h"
#include "client/grpc_loop.h"
#include "client/range_body.h"
#include "client/retry.h"
#include "client/session_keeper.h"
#include "transport/errors.h"
#include "transport/record_checksum.h"
#include "transport/wire_build.h"
#include "transport/worker.h"

namespace latentd {
namespace {

// Chunks of one LIST, at most; an answer often has room for less.
constexpr uint32_t kListLimit = 128;
// After a failed attempt to open a session, calls to the node fail at once for this long.
constexpr uint64_t kSessionBackoffNs = 50'000'000;

wire::RequestHeader ReplicaHeader(const WriteEpochs& epochs) {
  wire::RequestHeader header{};
  header.flags = wire::kReplica;
  header.placed = ToInt(epochs.placed);
  return header;
}

// gRPC's side: sessions on a thread of their own, which tells through `post`.
class PeerSessions {
 public:
  PeerSessions(const ControlOptions& options, std::shared_ptr<grpc::ChannelCredentials> credentials,
               SessionKeeper::Report report)
      : keeper_(options, std::move(credentials), &loop_, std::move(report)) {
    loop_.Start();
  }
  ~PeerSessions() {
    loop_.Post([this] { keeper_.CloseAll(); });
    loop_.Stop(
        absl::Milliseconds(500), [this] { return keeper_.idle(); }, [] {});
  }

  void Ensure(NodeId node, std::string address, SessionDoubt doubt, TokenBits doubted) {
    loop_.Post([this, node = std::move(node), address = std::move(address), doubt, doubted] {
      keeper_.Ensure(node, address, doubt, doubted);
    });
  }

 private:
  GrpcLoop loop_;
  SessionKeeper keeper_;
};

class UcxPeerClient final : public PeerClient {
 public:
  UcxPeerClient(PeerClientOptions options, std::unique_ptr<Worker> worker,
                std::shared_ptr<grpc::ChannelCredentials> credentials, Post post)
      : layout_(options.layout), worker_(std::move(worker)) {
    DataPathOptions path;
    path.liveness = {.ping_after = options.ping_after, .dead_after = options.dead_after};
    path.wire = {.geometry = layout_.geometry(),
                 .format = layout_.record_format,
                 .layers = layout_.layers,
                 .layout_hash = ToInt(HashLayout(layout_))};
    path_ = std::make_unique<DataPath>(worker_.get(), std::move(path));
    const ControlOptions control{.tls = options.tls,
                                 .client_name = absl::StrCat("node ", options.self),
                                 .peer_node = options.self,
                                 .worker_address = worker_->address(),
                                 .expected_layout = HashLayout(layout_),
                                 .layout = layout_};
    sessions_ = std::make_unique<PeerSessions>(
        control, std::move(credentials),
        [this, post = std::move(post), alive = std::weak_ptr<int>(alive_)](ControlEvent event) {
          post([this, alive, event = std::move(event)]() mutable {
            if (!alive.expired()) OnEvent(std::move(event));
          });
        });
  }

  ~UcxPeerClient() override {
    sessions_.reset();
    for (auto& [id, call] : calls_) {
      if (!call.ended.has_value()) call.ended = absl::CancelledError("the daemon is stopping");
      if (call.exchange != 0) path_->Abandon(call.exchange);
    }
    const uint64_t give_up_ns = SteadyNanos() + 1'000'000'000;
    while (path_->in_flight() > 0 && SteadyNanos() < give_up_ns) Turn();
    path_.reset();
    std::map<uint64_t, Call> left;
    left.swap(calls_);
    for (auto& [id, call] : left) call.done(Failure(call, *call.ended));
  }

  void SetTable(std::shared_ptr<const RoutingTable> table) override { table_ = std::move(table); }

  void Publish(const NodeId& node, const ChunkRange& range, std::span<const std::byte> records,
               WriteEpochs epochs, uint64_t deadline_ns, WriteDone done) override {
    auto build = [range, records, epochs](Outgoing* out) {
      out->opcode = wire::Opcode::kPublish;
      out->payload = records;
      wire::RequestHeader header = ReplicaHeader(epochs);
      header.flags |= wire::kPayloadChecksum;
      header.payload_checksum = PayloadChecksum(records);
      BuildPublish(header, BodyOf(range), &out->header);
    };
    Start(node, range.chunk.slot(), epochs.epoch, deadline_ns, std::move(build),
          AnswerTo(std::move(done)));
  }

  void Seal(const NodeId& node, const ChunkId& chunk, uint32_t tokens, uint64_t checksum,
            WriteEpochs epochs, uint64_t deadline_ns, WriteDone done) override {
    auto build = [chunk, tokens, checksum, epochs](Outgoing* out) {
      out->opcode = wire::Opcode::kSeal;
      BuildSeal(ReplicaHeader(epochs),
                {.chunk_hi = chunk.hi,
                 .chunk_lo = chunk.lo,
                 .checksum = checksum,
                 .tokens = tokens,
                 .reserved = 0},
                &out->header);
    };
    Start(node, chunk.slot(), epochs.epoch, deadline_ns, std::move(build),
          AnswerTo(std::move(done)));
  }

  void Drop(const NodeId& node, const ChunkId& chunk, WriteEpochs epochs, uint64_t deadline_ns,
            WriteDone done) override {
    auto build = [chunk, epochs](Outgoing* out) {
      out->opcode = wire::Opcode::kDrop;
      BuildDrop(ReplicaHeader(epochs), {.chunk_hi = chunk.hi, .chunk_lo = chunk.lo}, &out->header);
    };
    Start(node, chunk.slot(), epochs.epoch, deadline_ns, std::move(build),
          AnswerTo(std::move(done)));
  }

  void List(const NodeId& node, Slot slot, Epoch placed, const ChunkId& after, uint64_t deadline_ns,
            ListDone done) override {
    auto build = [slot, placed, after](Outgoing* out) {
      out->opcode = wire::Opcode::kList;
      BuildList({},
                {.placed = ToInt(placed),
                 .after_hi = after.hi,
                 .after_lo = after.lo,
                 .slot = ToInt(slot),
                 .limit = kListLimit},
                &out->header);
    };
    Start(node, slot, OwnEpoch(), deadline_ns, std::move(build),
          [done = std::move(done)](ExchangeResult result) {
            if (!result.status.ok()) return done(std::move(result.status));
            auto& reply = std::get<ListReply>(result.body);
            done(PeerListing{.chunks = std::move(reply.entries),
                             .layer_tokens = std::move(reply.layer_tokens),
                             .more = reply.more});
          });
  }

  void Fetch(const NodeId& node, const ChunkRange& range, uint64_t deadline_ns,
             FetchDone done) override {
    auto build = [this, range](Outgoing* out) {
      out->opcode = wire::Opcode::kFetch;
      out->reply_payload_bytes = uint64_t{range.layers} * range.tokens * layout_.record_bytes();
      BuildFetch({}, BodyOf(range), &out->header);
    };
    Start(node, range.chunk.slot(), OwnEpoch(), deadline_ns, std::move(build),
          [done = std::move(done)](ExchangeResult result) {
            if (!result.status.ok()) return done(std::move(result.status));
            done(std::move(result.payload));
          });
  }

  void Doubt(const NodeId& node, const ChunkId& chunk, uint64_t deadline_ns,
             WriteDone done) override {
    auto build = [chunk](Outgoing* out) {
      out->opcode = wire::Opcode::kStat;
      const wire::IdEntry id{.chunk_hi = chunk.hi, .chunk_lo = chunk.lo};
      BuildStat({.flags = wire::kDoubted}, {&id, 1}, &out->header);
    };
    Start(node, chunk.slot(), OwnEpoch(), deadline_ns, std::move(build), AnswerTo(std::move(done)));
  }

  void EndBy(uint64_t deadline_ns) override {
    for (auto& [id, call] : calls_) {
      if (call.deadline_ns <= deadline_ns || call.ended.has_value()) continue;
      deadlines_.Remove(call.deadline_ns, id);
      call.deadline_ns = deadline_ns;
      deadlines_.Add(deadline_ns, id);
    }
  }

  bool Progress() override {
    now_ns_ = SteadyNanos();
    const bool busy = Turn();
    deadlines_.TakeDue(now_ns_, &due_);
    for (const uint64_t id : std::exchange(due_, {})) {
      const auto found = calls_.find(id);
      if (found == calls_.end() || found->second.ended.has_value()) continue;
      End(id, absl::DeadlineExceededError("no answer before the deadline"));
    }
    return busy;
  }

  int event_fd() const override { return worker_->event_fd(); }
  bool Arm() override { return !path_->has_work() && worker_->Arm(); }
  uint64_t next_timer_ns() const override {
    return std::min(deadlines_.next_ns(), path_->next_timer_ns());
  }
  size_t in_flight() const override { return calls_.size(); }

 private:
  using Done = std::function<void(ExchangeResult)>;

  struct Call {
    NodeId node;
    Slot slot{};
    Epoch epoch{};
    uint64_t deadline_ns = 0;
    std::function<void(Outgoing*)> build;
    Done done;
    bool reopened = false;
    uint64_t exchange = 0;              // 0: none is under way
    std::optional<absl::Status> ended;  // is told as soon as its exchange has ended too
  };

  Epoch OwnEpoch() const { return table_ == nullptr ? Epoch{} : table_->epoch(); }

  static Done AnswerTo(WriteDone done) {
    return [done = std::move(done)](ExchangeResult result) {
      done({std::move(result.status), static_cast<Epoch>(result.header.epoch)});
    };
  }
  static ExchangeResult Failure(const Call& call, const absl::Status& status) {
    ExchangeResult result;
    result.status = PrefixStatus(status, absl::StrCat("node ", call.node));
    return result;
  }

  void Start(const NodeId& node, Slot slot, Epoch epoch, uint64_t deadline_ns,
             std::function<void(Outgoing*)> build, Done done) {
    const uint64_t id = next_id_++;
    calls_[id] = {.node = node,
                  .slot = slot,
                  .epoch = epoch,
                  .deadline_ns = deadline_ns,
                  .build = std::move(build),
                  .done = std::move(done)};
    deadlines_.Add(deadline_ns, id);
    // In the next turn: nobody is called back from inside the call.
    to_launch_.push_back(id);
  }

  bool Turn() {
    bool busy = !to_launch_.empty();
    for (const uint64_t id : std::exchange(to_launch_, {})) Launch(id);
    busy = path_->Progress(SteadyNanos(), &results_) || busy;
    for (ExchangeResult& result : std::exchange(results_, {})) OnResult(std::move(result));
    return busy;
  }

  void Launch(uint64_t id) {
    const auto found = calls_.find(id);
    if (found == calls_.end() || found->second.ended.has_value()) return;
    Call& call = found->second;
    const auto index = table_ == nullptr ? std::nullopt : table_->FindNode(call.node);
    if (!index.has_value()) return End(id, absl::UnavailableError("not in the routing table"));
    const NodeInfo& node = table_->node(*index);
    const SessionInfo* session = path_->FindSession(call.node);
    if (session == nullptr) {
      const auto failure = failures_.find(call.node);
      if (failure != failures_.end() && failure->second.until_ns > SteadyNanos()) {
        return End(id, failure->second.status);
      }
      waiting_[call.node].push_back(id);
      return AskForSession(node);
    }
    if (node.generation != Generation{} && node.generation != session->generation) {
      // One of the two is of a life that is over. The table's will be new soon; the session's, now.
      refused_.insert(call.node);
      path_->DropSession(call.node, absl::UnavailableError("it has restarted"));
      return End(id, absl::UnavailableError("it has restarted"));
    }
    Outgoing out;
    call.build(&out);
    const uint32_t lane = path_->LaneOf(call.node, call.slot);
    call.exchange = path_->Submit(call.node, lane, std::move(out), call.epoch, call.deadline_ns);
    by_exchange_[call.exchange] = id;
  }

  void AskForSession(const NodeInfo& node) {
    if (!opening_.insert(node.id).second) return;
    const std::optional<TokenBits> doubted = path_->DoubtedToken(node.id);
    SessionDoubt doubt = SessionDoubt::kNone;
    if (doubted.has_value()) {
      doubt = refused_.contains(node.id) ? SessionDoubt::kRefused : SessionDoubt::kSuspect;
    }
    sessions_->Ensure(node.id, node.control_address, doubt, doubted.value_or(TokenBits{}));
  }

  void OnResult(ExchangeResult result) {
    const auto found = by_exchange_.find(result.id);
    if (found == by_exchange_.end()) return;
    const uint64_t id = found->second;
    by_exchange_.erase(found);
    Call& call = calls_.at(id);
    call.exchange = 0;
    if (call.ended.has_value()) return Finish(id, Failure(call, *call.ended));
    const bool refused = absl::IsUnauthenticated(result.status) || IsWrongGeneration(result.status);
    if (refused) {
      if (IsWrongGeneration(result.status)) refused_.insert(call.node);
      const SessionInfo* session = path_->FindSession(call.node);
      if (session != nullptr && session->token == result.token)
        path_->DropSession(call.node, absl::UnavailableError("its session is over"));
      if (!std::exchange(call.reopened, true)) return to_launch_.push_back(id);
    }
    if (!result.status.ok()) {
      result.status = PrefixStatus(result.status, absl::StrCat("node ", call.node));
    }
    Finish(id, std::move(result));
  }

  // Ends a call of which nothing is under way, now; otherwise as soon as nothing reads its memory.
  void End(uint64_t id, absl::Status status) {
    Call& call = calls_.at(id);
    call.ended = std::move(status);
    if (call.exchange != 0) return path_->Abandon(call.exchange);
    Finish(id, Failure(call, *call.ended));
  }

  void Finish(uint64_t id, ExchangeResult result) {
    const auto found = calls_.find(id);
    const Call call = std::move(found->second);
    calls_.erase(found);
    deadlines_.Remove(call.deadline_ns, id);
    call.done(std::move(result));
  }

  void OnEvent(ControlEvent event) {
    NodeId node;
    if (auto* opened = std::get_if<SessionOpened>(&event)) {
      node = opened->session.node;
      refused_.erase(node);
      failures_.erase(node);
      path_->SetSession(opened->session);
    } else if (const auto* failed = std::get_if<SessionFailed>(&event)) {
      node = failed->node;
      failures_[node] = {failed->status, SteadyNanos() + kSessionBackoffNs};
    } else if (const auto* lost = std::get_if<SessionLost>(&event)) {
      const SessionInfo* session = path_->FindSession(lost->node);
      if (session != nullptr && session->token == lost->token)
        path_->DropSession(lost->node, absl::UnavailableError("its session is over"));
      return;
    } else {
      return;
    }
    opening_.erase(node);
    const auto waiting = waiting_.extract(node);
    if (waiting.empty()) return;
    to_launch_.insert(to_launch_.end(), waiting.mapped().begin(), waiting.mapped().end());
  }

  struct SessionFailure {
    absl::Status status;
    uint64_t until_ns = 0;
  };

  const Layout layout_;
  const std::unique_ptr<Worker> worker_;
  std::unique_ptr<DataPath> path_;
  std::unique_ptr<PeerSessions> sessions_;
  std::shared_ptr<const RoutingTable> table_;

  std::map<uint64_t, Call> calls_;
  absl::flat_hash_map<uint64_t, uint64_t> by_exchange_;
  std::vector<uint64_t> to_launch_;
  std::map<NodeId, std::vector<uint64_t>> waiting_;  // for a session
  absl::flat_hash_set<NodeId> opening_;
  absl::flat_hash_set<NodeId> refused_;  // daemons that do not know the session in doubt
  std::map<NodeId, SessionFailure> failures_;
  Deadlines deadlines_;
  uint64_t next_id_ = 1;
  uint64_t now_ns_ = 0;
  std::vector<ExchangeResult> results_;
  std::vector<uint64_t> due_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace

absl::StatusOr<std::unique_ptr<PeerClient>> PeerClient::Create(PeerClientOptions options,
                                                               Post post) {
  auto credentials = MakeCredentials(options.tls);
  if (!credentials.ok()) return credentials.status();
  auto context = Context::Create({.transports = options.transports});
  if (!context.ok()) return context.status();
  auto worker = Worker::Create(*context);
  if (!worker.ok()) return worker.status();
  return std::make_unique<UcxPeerClient>(std::move(options), *std::move(worker),
                                         *std::move(credentials), std::move(post));
}

}  // namespace latentd
