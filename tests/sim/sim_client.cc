#include "tests/sim/sim_client.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "tests/sim/sim_world.h"
#include "transport/errors.h"

namespace latentd::sim {
namespace {

constexpr absl::Duration kTickEvery = absl::Milliseconds(60);
constexpr absl::Duration kPollEvery = absl::Milliseconds(200);
constexpr absl::Duration kOperationTime = absl::Seconds(3);
constexpr absl::Duration kRefreshEvery = absl::Milliseconds(10);
constexpr absl::Duration kHolderWait = absl::Milliseconds(5);
constexpr size_t kMostChunks = 40;

}  // namespace

struct SimClient::Operation {
  Request request;
  OperationDone done;
  absl::Time deadline;
  Attempts attempts;
  int attempt = 0;  // answers to others are not heard
  std::optional<NodeId> avoid;
  bool ended = false;
};

SimClient::SimClient(SimWorld* world, int address, uint64_t seed)
    : world_(world), address_(address), random_(seed), clock_(&world->loop(), 1) {
  Tick();
  PollTable();
}

SimClient::~SimClient() = default;

ReplyDone SimClient::Guarded(ReplyDone done) {
  return [alive = std::weak_ptr<int>(alive_), done = std::move(done)](const Reply& reply) {
    if (!alive.expired()) done(reply);
  };
}

void SimClient::Tick() {
  clock_.After(random_.Between(kTickEvery / 2, kTickEvery), [this] { Tick(); });
  if (stopped_ || table_ == nullptr) return;
  if (random_.Chance(0.5)) {
    PublishNext();
  } else {
    AttendSome();
  }
}

void SimClient::PollTable() {
  clock_.After(random_.Between(kPollEvery / 2, kPollEvery), [this] { PollTable(); });
  AskTable(static_cast<int>(random_.Below(world_->nodes())), [] {});
}

void SimClient::AskTable(int node, std::function<void()> then) {
  world_->Call(address_, node, {.kind = Request::Kind::kTable},
               Guarded([this, then = std::move(then)](const Reply& reply) {
                 if (reply.status.ok()) Take(reply.table);
                 then();
               }));
}

void SimClient::Take(const TablePtr& table) {
  if (table_ == nullptr || table->epoch() > table_->epoch()) table_ = table;
}

void SimClient::PublishNext() {
  ChunkId id;
  const auto open = std::find_if(chunks_.begin(), chunks_.end(),
                                 [](const auto& chunk) { return !chunk.second.sealed; });
  if (open != chunks_.end() && random_.Chance(0.8)) {
    id = open->first;
  } else {
    if (chunks_.size() >= kMostChunks) return;
    const uint64_t slot = random_.Below(kBlocks) * kBlockSlots;
    id = {slot << 48 | random_.Below(uint64_t{1} << 48), random_.Bits()};
  }
  Progress& chunk = chunks_[id];
  const Slot slot = id.slot();
  if (chunk.published == 0) chunk.generation = table_->GenerationOf(slot);
  // What the slot had is gone: so is this chunk.
  if (chunk.generation != table_->GenerationOf(slot)) {
    chunks_.erase(id);
    return;
  }
  Request request{.kind = Request::Kind::kPublish};
  request.chunk = id;
  request.content = ContentOf(id);
  if (chunk.published == kFullMask) {
    request.kind = Request::Kind::kSeal;
  } else {
    request.mask = chunk.published == 0 ? 0x0F : 0xF0;
  }
  const Generation generation = chunk.generation;
  Start(request, kOperationTime, [this, id, request, generation](const absl::Status& status) {
    const auto found = chunks_.find(id);
    if (found == chunks_.end()) return;
    if (IsWrongGeneration(status)) {
      chunks_.erase(found);
      return;
    }
    if (!status.ok()) return;
    found->second.published |= request.mask;
    if (request.kind == Request::Kind::kSeal) {
      found->second.sealed = true;
      world_->Sealed(id, generation);
    }
  });
}

void SimClient::AttendSome() {
  const auto& sealed = world_->sealed();
  if (sealed.empty()) return;
  auto chunk = sealed.begin();
  std::advance(chunk, random_.Below(sealed.size()));
  Request request{.kind = Request::Kind::kAttend};
  request.chunk = chunk->first;
  request.mask = kFullMask;
  Start(request, kOperationTime, [](const absl::Status&) {});
}

void SimClient::AttendEverything(std::function<void(bool all_answered)> done) {
  struct Sum {
    size_t left = 1;
    bool all = true;
  };
  auto sum = std::make_shared<Sum>();
  const auto one = [sum, done](bool ok) {
    sum->all &= ok;
    if (--sum->left == 0) done(sum->all);
  };
  for (const auto& [chunk, generation] : world_->sealed()) {
    if (world_->MayBeLost(chunk)) continue;
    ++sum->left;
    Request request{.kind = Request::Kind::kAttend};
    request.chunk = chunk;
    request.mask = kFullMask;
    Start(request, kOperationTime, [one](const absl::Status& status) { one(status.ok()); });
  }
  one(true);
}

void SimClient::Start(Request request, absl::Duration time, OperationDone done) {
  auto op = std::make_shared<Operation>();
  op->request = std::move(request);
  op->done = std::move(done);
  op->deadline = clock_.now() + time;
  ++world_->mutable_counts().requests;
  clock_.After(time, [this, op] { End(op, absl::DeadlineExceededError("no answer in time")); });
  Attempt(op);
}

void SimClient::Attempt(const std::shared_ptr<Operation>& op) {
  if (op->ended) return;
  const Slot slot = op->request.chunk.slot();
  std::vector<NodeId> holders;
  for (const NodeIndex holder : table_->HoldersOf(slot)) {
    holders.push_back(table_->node(holder).id);
  }
  if (op->request.kind != Request::Kind::kAttend) holders.resize(1);
  if (holders.size() > 1 && op->avoid) std::erase(holders, *op->avoid);
  const int node = IndexOf(holders[random_.Below(holders.size())]);
  Request request = op->request;
  request.session = sessions_[node];
  request.epoch = table_->epoch();
  request.generation = table_->GenerationOf(slot);
  const int attempt = ++op->attempt;
  world_->Call(address_, node, request, Guarded([this, op, attempt, node](const Reply& reply) {
                 Answered(op, attempt, node, reply);
               }));
  // A holder that does not answer is as good as one that cannot be reached.
  const absl::Duration left = op->deadline - clock_.now();
  const bool other = holders.size() > 1 && op->request.kind == Request::Kind::kAttend;
  if (!other) return;
  clock_.After(absl::Nanoseconds(AttemptLimitNs(0, absl::ToInt64Nanoseconds(left))),
               [this, op, attempt, node] {
                 Answered(op, attempt, node, {.status = absl::UnavailableError("silent")});
               });
}

void SimClient::Answered(const std::shared_ptr<Operation>& op, int attempt, int node,
                         const Reply& reply) {
  if (op->ended || attempt != op->attempt) return;
  ++op->attempt;
  if (!reply.status.ok()) return TryAgain(op, reply, node);
  if (op->request.kind == Request::Kind::kAttend && reply.content != ContentOf(op->request.chunk)) {
    world_->Breach("an answer of other bytes than were published");
  }
  End(op, absl::OkStatus());
}

void SimClient::TryAgain(const std::shared_ptr<Operation>& op, const Reply& reply, int node) {
  const Slot slot = op->request.chunk.slot();
  const bool reads = op->request.kind == Request::Kind::kAttend;
  const Failure failure{.status = reply.status,
                        .sent_epoch = table_->epoch(),
                        .holder_epoch = reply.epoch,
                        .other_holder = reads && table_->HoldersOf(slot).size() > 1,
                        .of_primary = !reads};
  const Attempts before = op->attempts;
  const NextStep step = DecideRetry(failure, op->attempts);
  op->attempts = After(step, failure, op->attempts);
  switch (step) {
    case NextStep::kGiveUp:
      return End(op, reply.status);
    case NextStep::kRefreshTable:
      return Refresh(op, reply.epoch);
    case NextStep::kWaitForHolder:
      clock_.After(kHolderWait, [this, op] { Attempt(op); });
      return;
    case NextStep::kAwaitPrimary:
      return AwaitPrimary(op, node, clock_.now() + absl::Nanoseconds(PrimaryWaitNs(before)));
    case NextStep::kAskHolder:
      return AskTable(node, [this, op] { Attempt(op); });
    case NextStep::kReopenSession:
      world_->Call(address_, node, {.kind = Request::Kind::kOpen},
                   Guarded([this, op, node](const Reply& opened) {
                     sessions_[node] = opened.session;
                     Attempt(op);
                   }));
      return;
    case NextStep::kOtherHolder:
      op->avoid = NameOf(node);
      return Attempt(op);
  }
}

void SimClient::Refresh(const std::shared_ptr<Operation>& op, Epoch epoch) {
  if (op->ended) return;
  if (table_->epoch() >= epoch) return Attempt(op);
  AskTable(static_cast<int>(random_.Below(world_->nodes())), [] {});
  clock_.After(kRefreshEvery, [this, op, epoch] { Refresh(op, epoch); });
}

void SimClient::AwaitPrimary(const std::shared_ptr<Operation>& op, int lost, absl::Time until) {
  if (op->ended) return;
  const NodeIndex primary = table_->PrimaryOf(op->request.chunk.slot());
  if (clock_.now() >= until || IndexOf(table_->node(primary).id) != lost) return Attempt(op);
  clock_.After(kRefreshEvery, [this, op, lost, until] { AwaitPrimary(op, lost, until); });
}

void SimClient::End(const std::shared_ptr<Operation>& op, const absl::Status& status) {
  if (std::exchange(op->ended, true)) return;
  world_->Ended(clock_.now() <= op->deadline + absl::Milliseconds(1), status.ok());
  op->done(status);
}

}  // namespace latentd::sim
