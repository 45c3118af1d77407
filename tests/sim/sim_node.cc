#include "tests/sim/sim_node.h"

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "routing/layout_proto.h"
#include "tests/sim/sim_world.h"
#include "transport/errors.h"

namespace latentd::sim {
namespace {

constexpr absl::Duration kForwardPatience = absl::Milliseconds(800);
constexpr absl::Duration kForwardTimeout = absl::Milliseconds(150);
constexpr absl::Duration kForwardAgainAfter = absl::Milliseconds(20);
constexpr absl::Duration kPeerTimeout = absl::Milliseconds(400);

Layout SimLayout() {
  Layout layout;
  layout.model = "sim";
  layout.layers = 1;
  return layout;
}

uint32_t PrefixTokens(uint8_t mask) { return static_cast<uint32_t>(std::countr_one(mask)); }

uint8_t MaskOf(uint32_t first_token, uint32_t tokens) {
  return static_cast<uint8_t>(((1U << tokens) - 1U) << first_token);
}

// The table without joining nodes in slots that have no chunks: copying them costs more time than
// it tells.
TablePtr OnlyFirstOfBlocks(const RoutingTable& table) {
  RoutingTableParts parts = table.ToParts();
  std::vector<SlotRange> ranges;
  for (const SlotRange& range : parts.ranges) {
    for (uint32_t slot = range.first_slot; slot < range.first_slot + range.slots;
         slot += kBlockSlots) {
      SlotRange first = range;
      first.first_slot = slot;
      first.slots = 1;
      SlotRange rest = first;
      rest.first_slot = slot + 1;
      rest.slots = kBlockSlots - 1;
      rest.joining.clear();
      ranges.push_back(std::move(first));
      ranges.push_back(std::move(rest));
    }
  }
  parts.ranges = std::move(ranges);
  return RoutingTable::Create(std::move(parts)).value();
}

}  // namespace

std::string NameOf(int index) { return "node-" + std::to_string(index); }

struct SimNode::Write {
  Request request;  // as it is forwarded
  ReplyDone reply;
  std::set<NodeId> waiting_for;
  std::set<NodeId> joining;
  absl::Time deadline;
  bool ended = false;
};

SimNode::SimNode(SimWorld* world, const SimEtcdLink* link, SimNodeOptions options)
    : world_(world),
      options_(options),
      id_(NameOf(options.index)),
      clock_(&world->loop(), options.clock_rate),
      etcd_(&world->loop(), &world->etcd(), &clock_, link, options.seed + 1) {
  SlotSyncOptions sync;
  sync.self = id_;
  sync.longest_retry = absl::Seconds(1);
  sync_ = std::make_unique<SlotSync>(
      sync, SimLayout(), &clock_, this, this, [this](const std::vector<SlotClaim>& claims) {
        for (const SlotClaim& claim : claims) {
          world_->Log(
              absl::StrCat("  ", id_, " claims ", ToInt(claim.slot), "@", ToInt(claim.placed)));
        }
        member_->Claim(claims);
      });
  member_ = std::make_unique<ClusterNode>(
      &etcd_, &clock_,
      ClusterNodeOptions{.self = {.id = id_,
                                  .control_address = id_ + ":7400",
                                  .generation = options.generation,
                                  .capacity_bytes = uint64_t{1} << 30,
                                  .state = options.state},
                         .cluster = "sim",
                         .layout = ToProto(SimLayout()),
                         .version = "sim",
                         .ttl = options.ttl,
                         .replicas = options.replicas,
                         .seed = options.seed,
                         .block_slots = kBlockSlots},
      &fence_,
      ClusterNode::Callbacks{.on_table = [this](const TablePtr& table) { TakeTable(table); },
                             .on_change = [] {}});
  member_->Start();
}

void SimNode::TakeTable(const TablePtr& table) {
  world_->CheckDelivered(*this, table_, *table);
  table_ = table;
  // A slot that begins anew begins empty.
  for (uint32_t block = 0; block < kBlocks; ++block) {
    const Slot slot{static_cast<uint16_t>(block * kBlockSlots)};
    Generation& known = slot_generation_[slot];
    if (known != Generation{} && known != table->GenerationOf(slot)) {
      std::erase_if(chunks_, [&](const auto& chunk) { return chunk.first.slot() == slot; });
    }
    known = table->GenerationOf(slot);
  }
  sync_->SetTable(OnlyFirstOfBlocks(*table));
}

absl::Status SimNode::Admit(const Request& request) const {
  if (!serves()) return absl::UnavailableError("fenced");
  if (table_ == nullptr) return absl::UnavailableError("no table yet");
  if (request.session != ToInt(options_.generation)) return absl::UnauthenticatedError("session");
  const Slot slot = request.chunk.slot();
  if (request.epoch > table_->epoch()) return WrongEpochError("the holder is behind");
  if (AnswersBehind(request)) return absl::OkStatus();
  if (request.epoch < table_->PlacedOf(slot)) return WrongEpochError("the requester is behind");
  if (request.generation != table_->GenerationOf(slot)) return WrongGenerationError("generation");
  const auto self = table_->FindNode(id_);
  const bool writes = request.kind != Request::Kind::kAttend;
  if (!self || (writes ? table_->PrimaryOf(slot) != *self : !table_->Holds(*self, slot))) {
    return NotHolderError("not a holder");
  }
  return absl::OkStatus();
}

// As lane_slots.cc.
bool SimNode::AnswersBehind(const Request& request) const {
  const Slot slot = request.chunk.slot();
  if (request.kind != Request::Kind::kAttend || request.epoch >= table_->PlacedOf(slot) ||
      request.generation != table_->GenerationOf(slot)) {
    return false;
  }
  const auto self = table_->FindNode(id_);
  return self && table_->Holds(*self, slot);
}

void SimNode::Handle(const Request& request, ReplyDone reply) {
  const auto answer = [&](Reply r) {
    r.epoch = table_ == nullptr ? Epoch{0} : table_->epoch();
    reply(r);
  };
  switch (request.kind) {
    case Request::Kind::kOpen:
      return answer({.status = {}, .session = ToInt(options_.generation)});
    case Request::Kind::kTable:
      return answer(
          {.status = table_ == nullptr ? absl::UnavailableError("no table yet") : absl::OkStatus(),
           .table = table_});
    case Request::Kind::kPublish:
    case Request::Kind::kSeal:
      return HandlePublishOrSeal(request, std::move(reply));
    case Request::Kind::kAttend:
      return answer(Attend(request));
    case Request::Kind::kForwardPublish:
    case Request::Kind::kForwardSeal:
      return answer(Forwarded(request));
    case Request::Kind::kList:
      return answer(ListSlots(request));
    case Request::Kind::kFetch:
      return answer(FetchChunk(request));
  }
}

Reply SimNode::Attend(const Request& request) {
  if (absl::Status status = Admit(request); !status.ok()) return {.status = status};
  world_->CheckAnswers(*this, request);
  const auto chunk = chunks_.find(request.chunk);
  if (chunk == chunks_.end()) return {.status = absl::NotFoundError("no such chunk")};
  if ((chunk->second.mask & request.mask) != request.mask) {
    return {.status = absl::OutOfRangeError("tokens have not arrived")};
  }
  return {.status = {}, .content = chunk->second.content};
}

absl::Status SimNode::Apply(Request::Kind kind, const Request& request) {
  if (kind == Request::Kind::kPublish) {
    Chunk& chunk = chunks_[request.chunk];
    if (chunk.sealed && (chunk.mask & request.mask) != request.mask) {
      return absl::AlreadyExistsError("sealed");
    }
    chunk.mask |= request.mask;
    chunk.content = request.content;
    return absl::OkStatus();
  }
  const auto chunk = chunks_.find(request.chunk);
  if (chunk == chunks_.end() || chunk->second.mask != kFullMask) {
    return absl::FailedPreconditionError("records are missing");
  }
  chunk->second.sealed = true;
  return absl::OkStatus();
}

void SimNode::HandlePublishOrSeal(const Request& request, ReplyDone reply) {
  const auto answer = [&](absl::Status status) {
    reply({.status = std::move(status), .epoch = table_ == nullptr ? Epoch{0} : table_->epoch()});
  };
  if (absl::Status status = Admit(request); !status.ok()) return answer(status);
  world_->CheckAnswers(*this, request);
  world_->CheckPrimary(*this, request.chunk.slot());
  if (absl::Status status = Apply(request.kind, request); !status.ok()) return answer(status);

  auto write = std::make_shared<Write>();
  const Slot slot = request.chunk.slot();
  write->request = request;
  write->request.kind = request.kind == Request::Kind::kPublish ? Request::Kind::kForwardPublish
                                                                : Request::Kind::kForwardSeal;
  write->request.epoch = table_->epoch();
  write->request.placed = table_->PlacedOf(slot);
  if (options_.acks_all) {
    write->reply = std::move(reply);
  } else {
    world_->Acknowledges(*this, request.chunk);
    reply({.status = absl::OkStatus(), .epoch = table_->epoch()});
  }
  write->deadline = clock_.now() + kForwardPatience;
  for (const NodeIndex node : table_->HoldersOf(slot)) {
    if (table_->node(node).id != id_) write->waiting_for.insert(table_->node(node).id);
  }
  for (const NodeIndex node : table_->JoiningOf(slot)) {
    write->waiting_for.insert(table_->node(node).id);
    write->joining.insert(table_->node(node).id);
  }
  if (write->waiting_for.empty()) return End(*write, absl::OkStatus());
  const std::set<NodeId> nodes = write->waiting_for;
  for (const NodeId& node : nodes) Forward(write, node);
}

void SimNode::Forward(std::shared_ptr<Write> write, const NodeId& node) {
  if (write->ended) return;
  if (clock_.now() > write->deadline) {
    return End(*write, absl::UnavailableError(node + " does not take it"));
  }
  if (table_->PlacedOf(write->request.chunk.slot()) != write->request.placed) {
    return End(*write, absl::UnavailableError("the slot has moved"));
  }
  auto heard = std::make_shared<bool>(false);
  world_->Call(options_.index, IndexOf(node), write->request,
               world_->Guarded(*this, [this, write, node, heard](const Reply& reply) {
                 if (!std::exchange(*heard, true)) Forwarded(write, node, reply);
               }));
  clock_.After(kForwardTimeout, [this, write, node, heard] {
    if (!std::exchange(*heard, true)) Forward(write, node);
  });
}

void SimNode::Forwarded(std::shared_ptr<Write> write, const NodeId& node, const Reply& reply) {
  if (write->ended) return;
  const bool misses_records =
      absl::IsFailedPrecondition(reply.status) && !IsWrongEpoch(reply.status);  // of the same code
  // What an acknowledged seal misses may still be on its way.
  const bool will_copy = misses_records && write->joining.contains(node) && options_.acks_all;
  if (reply.status.ok() || will_copy) {
    write->waiting_for.erase(node);
    if (write->waiting_for.empty()) End(*write, absl::OkStatus());
    return;
  }
  const bool goes_by_newer = IsWrongEpoch(reply.status) && reply.epoch > write->request.epoch;
  if (goes_by_newer) return End(*write, absl::UnavailableError(node + " goes by a newer table"));
  clock_.After(kForwardAgainAfter, [this, write, node] { Forward(write, node); });
}

void SimNode::End(Write& write, absl::Status status) {
  world_->Log(absl::StrCat("  ", id_, " wrote ", ToString(write.request.chunk), " ",
                           write.request.kind == Request::Kind::kForwardSeal ? "seal" : "part",
                           " placed ", ToInt(write.request.placed), ": ", status.ToString()));
  write.ended = true;
  if (!write.reply) {
    if (!status.ok()) ReportMissed(write);
    return;
  }
  if (!serves()) status = absl::UnavailableError("fenced");
  if (status.ok()) world_->CheckAnswers(*this, write.request);
  write.reply({.status = std::move(status), .epoch = table_->epoch()});
}

// Every node that has not answered that it took it: what was acknowledged, these may lack.
void SimNode::ReportMissed(const Write& write) {
  for (const NodeId& node : write.waiting_for) {
    const auto index = table_->FindNode(node);
    if (!index) continue;
    member_->ReportMissed({.node = node,
                           .generation = table_->node(*index).generation,
                           .slot = write.request.chunk.slot(),
                           .placed = write.request.placed});
  }
}

Reply SimNode::Forwarded(const Request& request) {
  const auto refuse = [](absl::Status status) { return Reply{.status = std::move(status)}; };
  if (!serves() || table_ == nullptr) return refuse(absl::UnavailableError("fenced"));
  const Slot slot = request.chunk.slot();
  if (request.epoch > table_->epoch()) return refuse(WrongEpochError("behind"));
  const auto self = table_->FindNode(id_);
  if (table_->PlacedOf(slot) != request.placed || !self ||
      !(table_->Holds(*self, slot) || table_->Joins(*self, slot))) {
    return refuse(WrongEpochError("placed otherwise"));
  }
  return {.status = Apply(request.kind == Request::Kind::kForwardPublish ? Request::Kind::kPublish
                                                                         : Request::Kind::kSeal,
                          request)};
}

Reply SimNode::ListSlots(const Request& request) const {
  Reply reply;
  if (!serves() || table_ == nullptr) return {.status = absl::UnavailableError("fenced")};
  const auto self = table_->FindNode(id_);
  for (const SlotClaim& asked : request.slots) {
    if (table_->PlacedOf(asked.slot) != asked.placed || !self ||
        table_->PrimaryOf(asked.slot) != *self) {
      return {.status = WrongEpochError("placed otherwise")};
    }
    for (const auto& [id, chunk] : chunks_) {
      if (id.slot() != asked.slot) continue;
      reply.chunks.push_back({.id = id,
                              .sealed = chunk.sealed,
                              .tokens = PrefixTokens(chunk.mask),
                              .checksum = chunk.sealed ? chunk.content : 0});
    }
  }
  return reply;
}

Reply SimNode::FetchChunk(const Request& request) const {
  if (!serves()) return {.status = absl::UnavailableError("fenced")};
  const auto chunk = chunks_.find(request.chunk);
  if (chunk == chunks_.end()) return {.status = absl::NotFoundError("no such chunk")};
  if ((chunk->second.mask & request.mask) != request.mask) {
    return {.status = absl::OutOfRangeError("tokens have not arrived")};
  }
  return {.status = {}, .content = chunk->second.content};
}

// ---- what SlotSync needs ----

void SimNode::List(const NodeId& node, std::vector<SlotClaim> slots, PeerChunks::ListDone done) {
  Request request{.kind = Request::Kind::kList};
  request.slots = std::move(slots);
  world_->CallWithTimeout(*this, IndexOf(node), request, kPeerTimeout,
                          [done = std::move(done)](const Reply& reply) {
                            if (!reply.status.ok()) return done(reply.status);
                            done(reply.chunks);
                          });
}

void SimNode::Fetch(const NodeId& node, const ChunkRange& range, FetchDone done) {
  Request request{.kind = Request::Kind::kFetch};
  request.chunk = range.chunk;
  request.mask = MaskOf(range.first_token, range.tokens);
  world_->CallWithTimeout(*this, IndexOf(node), request, kPeerTimeout,
                          [done = std::move(done)](const Reply& reply) {
                            if (!reply.status.ok()) return done(reply.status);
                            auto content = std::make_shared<const uint64_t>(reply.content);
                            const auto* bytes = reinterpret_cast<const std::byte*>(content.get());
                            done(CopiedRecords{content, {bytes, sizeof(uint64_t)}});
                          });
}

void SimNode::List(std::vector<Slot> slots, LocalChunks::ListDone done) {
  clock_.After(absl::ZeroDuration(), [this, slots = std::move(slots), done = std::move(done)] {
    std::vector<ChunkState> states;
    for (const auto& [id, chunk] : chunks_) {
      if (std::find(slots.begin(), slots.end(), id.slot()) == slots.end()) continue;
      states.push_back({.id = id,
                        .sealed = chunk.sealed,
                        .tokens = PrefixTokens(chunk.mask),
                        .checksum = chunk.sealed ? chunk.content : 0});
    }
    done(std::move(states));
  });
}

absl::Status SimNode::CheckPlaced(const ChunkId& chunk, Epoch placed) const {
  if (table_->PlacedOf(chunk.slot()) == placed) return absl::OkStatus();
  return WrongEpochError("placed otherwise");
}

void SimNode::Publish(const ChunkRange& range, Epoch placed, CopiedRecords records, Done done) {
  clock_.After(absl::Microseconds(100), [this, range, placed, records, done = std::move(done)] {
    if (absl::Status status = CheckPlaced(range.chunk, placed); !status.ok()) return done(status);
    Request request{.kind = Request::Kind::kPublish};
    request.chunk = range.chunk;
    request.mask = MaskOf(range.first_token, range.tokens);
    request.content = *reinterpret_cast<const uint64_t*>(records.bytes.data());
    done(Apply(Request::Kind::kPublish, request));
  });
}

void SimNode::Seal(const ChunkId& chunk, uint32_t, uint64_t checksum, Epoch placed, Done done) {
  clock_.After(absl::ZeroDuration(), [this, chunk, checksum, placed, done = std::move(done)] {
    if (absl::Status status = CheckPlaced(chunk, placed); !status.ok()) return done(status);
    const auto found = chunks_.find(chunk);
    if (found != chunks_.end() && found->second.content != checksum) {
      return done(absl::DataLossError("checksum"));
    }
    Request request{.kind = Request::Kind::kSeal};
    request.chunk = chunk;
    done(Apply(Request::Kind::kSeal, request));
  });
}

void SimNode::Drop(const ChunkId& chunk, Epoch placed, Done done) {
  clock_.After(absl::ZeroDuration(), [this, chunk, placed, done = std::move(done)] {
    if (absl::Status status = CheckPlaced(chunk, placed); !status.ok()) return done(status);
    const auto found = chunks_.find(chunk);
    if (found != chunks_.end() && !found->second.sealed) chunks_.erase(found);
    done(absl::OkStatus());
  });
}

void SimNode::Discard(const ChunkId& chunk, Epoch placed, Done done) {
  clock_.After(absl::ZeroDuration(), [this, chunk, placed, done = std::move(done)] {
    if (absl::Status status = CheckPlaced(chunk, placed); !status.ok()) return done(status);
    const auto self = table_->FindNode(id_);
    if (!self || !table_->Joins(*self, chunk.slot())) {
      return done(absl::FailedPreconditionError("does not join the slot"));
    }
    chunks_.erase(chunk);
    done(absl::OkStatus());
  });
}

// No memory is damaged here.
void SimNode::MarkLost(const ChunkId&, uint32_t, uint64_t, Epoch, Done done) {
  clock_.After(absl::ZeroDuration(), [done = std::move(done)] {
    done(absl::UnimplementedError("nothing is ever lost"));
  });
}

}  // namespace latentd::sim
