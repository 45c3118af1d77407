#include "daemon/replication/forwarder.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/clock.h"
#include "daemon/replication/chunk_slices.h"
#include "transport/errors.h"

namespace latentd {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(2);
constexpr absl::Duration kLongestPause = absl::Milliseconds(200);
// How often a node with a newer table is asked again before this node has that table too: some
// hundred milliseconds in all.
constexpr uint32_t kTriesForNewerTable = 10;

absl::Duration Pause(uint32_t tries) {
  return std::min(kLongestPause, kFirstPause * static_cast<double>(1u << std::min(tries, 16u)));
}

bool IsBarrier(const ReplicaWrite& write) { return write.kind != ReplicaWrite::Kind::kPublish; }

ChunkRange RangeOf(const ReplicaWrite& write) {
  return {.chunk = write.chunk,
          .first_layer = write.range.first_layer,
          .layers = write.range.layers,
          .first_token = write.range.first_token,
          .tokens = write.range.tokens};
}

}  // namespace

Forwarder::Forwarder(ForwarderOptions options, PeerThread* thread, Quarantined quarantined,
                     Missed missed)
    : options_(std::move(options)),
      thread_(thread),
      quarantined_(std::move(quarantined)),
      missed_(std::move(missed)) {}

void Forwarder::Forward(ReplicaWrite write, std::function<void(absl::Status)> done) {
  if (write.nodes.empty()) return done(absl::OkStatus());
  const uint64_t bytes = write.records.size();
  const bool too_many = writes_.fetch_add(1) >= options_.max_writes;
  const bool too_much = bytes_under_way_.fetch_add(bytes) + bytes > options_.max_bytes;
  if (too_many || too_much) {
    writes_.fetch_sub(1);
    bytes_under_way_.fetch_sub(bytes);
    return done(WithRetryAfter(
        absl::ResourceExhaustedError("too much waits to be passed on to other holders"),
        absl::Milliseconds(10)));
  }
  auto owned = std::make_shared<Write>();
  owned->nodes_left = write.nodes.size();
  owned->write = std::move(write);
  owned->done = done;
  if (!thread_->Post([this, owned] { Begin(owned); })) {
    writes_.fetch_sub(1);
    bytes_under_way_.fetch_sub(bytes);
    done(absl::UnavailableError("the node is stopping"));
  }
}

void Forwarder::OnQuarantined(uint32_t, const ChunkId& chunk, uint32_t tokens, uint64_t checksum) {
  thread_->Post([this, chunk, tokens, checksum] { quarantined_(chunk, tokens, checksum); });
}

void Forwarder::EndBy(absl::Time deadline) {
  thread_->Post([this, deadline] {
    end_by_ = std::min(end_by_, std::max(deadline, thread_->now()));
    thread_->client().EndBy(SteadyNanosOf(end_by_));
    thread_->After(std::max(absl::ZeroDuration(), end_by_ - thread_->now()), [this] {
      for (const AttemptPtr& attempt : std::exchange(pausing_, {}))
        Ended(attempt, absl::DeadlineExceededError("the node is stopping"));
    });
  });
}

absl::Time Forwarder::DeadlineOf(const ReplicaWrite& write) const {
  return std::min(write.deadline, end_by_);
}

ForwardStats Forwarder::stats() const {
  ForwardStats stats{.under_way = writes_,
                     .bytes_under_way = bytes_under_way_,
                     .done = done_,
                     .failed = failed_,
                     .retries = retries_,
                     .resupplied = resupplied_,
                     .oldest = absl::ZeroDuration()};
  if (const int64_t oldest_ns = oldest_ns_; oldest_ns != 0) {
    stats.oldest = std::max(absl::ZeroDuration(), thread_->now() - absl::FromUnixNanos(oldest_ns));
  }
  return stats;
}

void Forwarder::SetTable(TablePtr table) {
  table_ = std::move(table);
  // Whatever was waited for, it may be there now.
  for (const AttemptPtr& attempt : std::exchange(pausing_, {})) Send(attempt);
}

void Forwarder::StopWaiting() {
  stopping_ = true;
  for (const AttemptPtr& attempt : std::exchange(pausing_, {}))
    Ended(attempt, absl::UnavailableError("the node is stopping"));
}

void Forwarder::Begin(WritePtr write) {
  write->start = thread_->now();
  starts_.insert(write->start);
  oldest_ns_ = absl::ToUnixNanos(*starts_.begin());
  for (const NodeId& node : write->write.nodes) {
    const StreamKey key{write->write.chunk, node};
    auto attempt = std::make_shared<Attempt>();
    attempt->write = write;
    attempt->node = node;
    streams_[key].waiting.push_back(std::move(attempt));
    Pump(key);
  }
}

void Forwarder::Pump(const StreamKey& key) {
  const auto found = streams_.find(key);
  if (found == streams_.end()) return;
  Stream& stream = found->second;
  std::vector<AttemptPtr> go;
  while (!stream.waiting.empty() && !stream.barrier) {
    const bool barrier = IsBarrier(stream.waiting.front()->write->write);
    if (barrier && stream.under_way > 0) break;
    stream.barrier = barrier;
    ++stream.under_way;
    go.push_back(std::move(stream.waiting.front()));
    stream.waiting.pop_front();
  }
  if (stream.under_way == 0) streams_.erase(found);
  for (const AttemptPtr& attempt : go) Send(attempt);
}

bool Forwarder::StillGives(const ChunkId& chunk, const NodeId& node) const {
  const auto index = table_->FindNode(node);
  return index.has_value() &&
         (table_->Holds(*index, chunk.slot()) || table_->Joins(*index, chunk.slot()));
}

WriteEpochs Forwarder::EpochsOf(const ReplicaWrite& write) const {
  if (table_ != nullptr && table_->epoch() > write.epoch &&
      table_->node(table_->PrimaryOf(write.chunk.slot())).id == options_.self) {
    return {.epoch = table_->epoch(), .placed = table_->PlacedOf(write.chunk.slot())};
  }
  return {.epoch = write.epoch, .placed = write.placed};
}

void Forwarder::Send(const AttemptPtr& attempt) {
  const ReplicaWrite& write = attempt->write->write;
  if (stopping_) return Ended(attempt, absl::UnavailableError("the node is stopping"));
  if (table_ != nullptr && table_->epoch() > write.epoch &&
      !StillGives(write.chunk, attempt->node)) {
    return Ended(attempt, absl::OkStatus());
  }
  attempt->sent = EpochsOf(write);
  if (attempt->anew) return Renew(attempt);
  const uint64_t deadline_ns = SteadyNanosOf(DeadlineOf(write));
  auto done = [this, attempt](const PeerAnswer& answer) { Answered(attempt, answer); };
  PeerClient& client = thread_->client();
  switch (write.kind) {
    case ReplicaWrite::Kind::kPublish:
      return client.Publish(attempt->node, RangeOf(write), write.records, attempt->sent,
                            deadline_ns, std::move(done));
    case ReplicaWrite::Kind::kSeal:
      return client.Seal(attempt->node, write.chunk, write.tokens, write.checksum, attempt->sent,
                         deadline_ns, std::move(done));
    case ReplicaWrite::Kind::kDrop:
      return client.Drop(attempt->node, write.chunk, attempt->sent, deadline_ns, std::move(done));
  }
}

void Forwarder::Answered(const AttemptPtr& attempt, const PeerAnswer& answer) {
  const absl::Status& status = answer.status;
  const ReplicaWrite::Kind kind = attempt->write->write.kind;
  if (status.ok()) return Ended(attempt, status);
  if (kind == ReplicaWrite::Kind::kDrop && absl::IsNotFound(status)) {
    return Ended(attempt, absl::OkStatus());
  }
  if (IsWrongEpoch(status) || IsNotHolder(status)) {
    // Of a newer table this node knows nothing, until it does: then the next try goes by it.
    const bool newer = answer.epoch > attempt->sent.epoch;
    if (newer && attempt->tries >= kTriesForNewerTable) return Ended(attempt, status);
    return Again(attempt, Pause(newer ? 4 : attempt->tries), status);
  }
  if (absl::IsUnavailable(status) || absl::IsResourceExhausted(status) ||
      IsWrongGeneration(status) || absl::IsUnauthenticated(status)) {
    return Again(attempt, RetryAfter(status).value_or(Pause(attempt->tries)), status);
  }
  if (kind == ReplicaWrite::Kind::kSeal && !attempt->resupplied &&
      (absl::IsNotFound(status) || absl::IsFailedPrecondition(status))) {
    attempt->resupplied = true;
    ++resupplied_;
    const ReplicaWrite& seal = attempt->write->write;
    auto resupply = std::make_shared<Resupply>();
    resupply->slices = SlicesOf({.id = seal.chunk, .tokens = seal.tokens}, 0, options_.layout,
                                options_.resupply_bytes);
    return SendWhole(attempt, std::move(resupply));
  }
  if (kind == ReplicaWrite::Kind::kPublish && !attempt->resupplied &&
      absl::IsAlreadyExists(status)) {
    return Renew(attempt);
  }
  // What is sealed there has lost nothing.
  if (absl::IsAlreadyExists(status) || absl::IsFailedPrecondition(status)) attempt->anew = false;
  Ended(attempt, status);
}

void Forwarder::Renew(const AttemptPtr& attempt) {
  const ReplicaWrite& write = attempt->write->write;
  Stream& stream = streams_.at({write.chunk, attempt->node});
  if (stream.renewing != nullptr && stream.renewing != attempt) {
    attempt->resupplied = true;
    stream.behind.push_back(attempt);
    return;
  }
  stream.renewing = attempt;
  attempt->anew = attempt->resupplied = true;
  ++resupplied_;
  thread_->client().Drop(attempt->node, write.chunk, attempt->sent,
                         SteadyNanosOf(DeadlineOf(write)),
                         [this, attempt](const PeerAnswer& answer) {
                           const bool gone = answer.status.ok() || absl::IsNotFound(answer.status);
                           gone ? SendAllHere(attempt) : Answered(attempt, answer);
                         });
}

// What the node took of other attempts before its chunk went is here too.
void Forwarder::SendAllHere(const AttemptPtr& attempt) {
  const ChunkId& chunk = attempt->write->write.chunk;
  const ChunkId before = chunk.lo > 0 ? ChunkId{.hi = chunk.hi, .lo = chunk.lo - 1}
                                      : ChunkId{.hi = chunk.hi - (chunk.hi > 0),
                                                .lo = chunk.hi > 0 ? ~uint64_t{0} : 0};
  const WriteEpochs epochs = EpochsOf(attempt->write->write);
  thread_->client().List(options_.self, chunk.slot(), epochs.placed, before,
                         SteadyNanosOf(DeadlineOf(attempt->write->write)),
                         [this, attempt, chunk](absl::StatusOr<PeerListing> here) {
                           if (!here.ok()) return Answered(attempt, {here.status()});
                           auto resupply = std::make_shared<Resupply>();
                           if (!here->chunks.empty() && here->chunks[0].chunk_hi == chunk.hi &&
                               here->chunks[0].chunk_lo == chunk.lo) {
                             resupply->slices =
                                 SlicesOf({.id = chunk,
                                           .tokens = here->chunks[0].tokens,
                                           .layer_tokens = std::move(here->layer_tokens[0])},
                                          0, options_.layout, options_.resupply_bytes);
                           }
                           SendWhole(attempt, std::move(resupply));
                         });
}

void Forwarder::EndRenewal(const AttemptPtr& attempt) {
  const auto found = streams_.find({attempt->write->write.chunk, attempt->node});
  if (found == streams_.end() || found->second.renewing != attempt) return;
  found->second.renewing = nullptr;
  for (const AttemptPtr& waiting : std::exchange(found->second.behind, {})) Send(waiting);
}

void Forwarder::Again(const AttemptPtr& attempt, absl::Duration delay, const absl::Status& why) {
  if (stopping_ || thread_->now() + delay >= DeadlineOf(attempt->write->write)) {
    return Ended(attempt, why);
  }
  EndRenewal(attempt);
  ++attempt->tries;
  attempt->resupplied = false;
  ++retries_;
  pausing_.insert(attempt);
  thread_->After(delay, [this, attempt] {
    if (pausing_.erase(attempt) != 0) Send(attempt);
  });
}

// Its own records are this node's to fetch like anybody else's.
void Forwarder::SendWhole(const AttemptPtr& attempt, std::shared_ptr<Resupply> resupply) {
  if (stopping_ || resupply->next == resupply->slices.size()) {
    attempt->anew = attempt->anew && stopping_;
    EndRenewal(attempt);
    return Send(attempt);
  }
  const ChunkRange range = resupply->slices[resupply->next++].range;
  const uint64_t deadline_ns = SteadyNanosOf(DeadlineOf(attempt->write->write));
  thread_->client().Fetch(
      options_.self, range, deadline_ns,
      [this, attempt, resupply, range, deadline_ns](absl::StatusOr<ReplyPayload> records) {
        if (!records.ok()) return Ended(attempt, records.status());
        if (stopping_) return Ended(attempt, absl::UnavailableError("the node is stopping"));
        const auto owner = std::make_shared<ReplyPayload>(*std::move(records));
        thread_->client().Publish(attempt->node, range, owner->bytes(), attempt->sent, deadline_ns,
                                  [this, attempt, resupply, owner](const PeerAnswer& answer) {
                                    if (!answer.status.ok()) return Answered(attempt, answer);
                                    SendWhole(attempt, resupply);
                                  });
      });
}

// What it missed, it missed of the placement that the write was made under, or sent by.
void Forwarder::TellMissed(const Attempt& attempt) {
  const ReplicaWrite& write = attempt.write->write;
  const bool lacks = write.acknowledged || attempt.anew;
  if (!lacks || table_ == nullptr || !StillGives(write.chunk, attempt.node)) return;
  missed_({.node = attempt.node,
           .generation = table_->node(*table_->FindNode(attempt.node)).generation,
           .slot = write.chunk.slot(),
           .placed = std::max(write.placed, attempt.sent.placed)});
}

void Forwarder::Ended(const AttemptPtr& attempt, absl::Status status) {
  EndRenewal(attempt);
  const WritePtr& write = attempt->write;
  if (!status.ok()) TellMissed(*attempt);
  if (!status.ok() && write->failed.ok()) write->failed = std::move(status);
  const StreamKey key{write->write.chunk, attempt->node};
  Stream& stream = streams_.at(key);
  --stream.under_way;
  if (IsBarrier(write->write)) stream.barrier = false;
  if (--write->nodes_left == 0) Finish(write);
  Pump(key);
}

void Forwarder::Finish(const WritePtr& write) {
  starts_.erase(starts_.find(write->start));
  oldest_ns_ = starts_.empty() ? 0 : absl::ToUnixNanos(*starts_.begin());
  writes_.fetch_sub(1);
  bytes_under_way_.fetch_sub(write->write.records.size());
  if (write->failed.ok()) {
    ++done_;
  } else {
    ++failed_;
  }
  write->done(write->failed);
}

}  // namespace latentd
