// What a slot's primary took goes to the slot's other nodes: holders, and those that join. And what
// those ask of each other: LIST and DROP.
//
// The records stay where they arrived until the sink is done with them: in the request, which waits
// to be answered, or in kept_, if its requester has its answer already. Either way they are bounded:
// what waits counts as in flight, and kept_ beyond its share makes requests wait.
#include <sched.h>

#include <algorithm>
#include <string>
#include <utility>

#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"

namespace latentd {
namespace {

// Names nobody's request: of writes that nobody waits for.
constexpr uint64_t kNoSerial = 0;

}  // namespace

bool LaneImpl::Address(ReplicaWrite& write) const {
  const Slot slot = write.chunk.slot();
  if (options_.replica_sink == nullptr || slots_ == nullptr ||
      slots_->RoleOf(slot) != SlotRole::kPrimary || !slots_->HasOthers(slot)) {
    return false;
  }
  write.nodes = slots_->OthersOf(slot);
  write.epoch = slots_->epoch();
  write.placed = slots_->PlacedOf(slot);
  return true;
}

void LaneImpl::Replicate(LaneRequest& request, ReplicaWrite write) {
  if (!Address(write)) return Finish(request, absl::OkStatus());
  const absl::Time patience = SteadyNow() + options_.forward_patience;
  const uint64_t serial = request.serial;
  const bool waits = options_.acks_all ||
                     kept_bytes_ + request.payload.size() > options_.limits.inflight_bytes / 2;
  write.deadline = waits ? std::min(request.deadline, patience) : patience;
  if (waits) {
    request.stage = LaneRequest::Stage::kForwarding;
    return Forward(std::move(write), serial);
  }
  write.acknowledged = true;
  KeepPayload(request);
  Forward(std::move(write), serial);
  Finish(request, absl::OkStatus());
}

void LaneImpl::KeepPayload(LaneRequest& request) {
  KeptPayload& kept = kept_[request.serial];
  kept.bytes = request.payload.size();
  kept.message = std::move(request.message);
  kept.received = std::move(request.received);
  kept_bytes_ += kept.bytes;
}

void LaneImpl::Forward(ReplicaWrite write, uint64_t serial) {
  ++forwards_;
  stats_.forwarded_bytes.Add(write.records.size());
  options_.replica_sink->Forward(
      std::move(write), [this, mailbox = mailbox_, serial](const absl::Status& status) {
        mailbox->Post([this, serial, status] { OnForwarded(serial, status); });
      });
}

void LaneImpl::OnForwarded(uint64_t serial, const absl::Status& status) {
  --forwards_;
  if (!status.ok()) stats_.forwards_failed.Add();
  const auto kept = kept_.find(serial);
  const bool was_answered = kept != kept_.end() || serial == kNoSerial;
  if (was_answered) {
    if (kept != kept_.end()) {
      kept_bytes_ -= kept->second.bytes;
      kept_.erase(kept);
    }
    if (!status.ok() && log_gate_.Open(SteadyNow())) {
      LogWarn("a replica did not take what was acknowledged",
              {{"lane", options_.index},
               {"reason", std::string(status.message())},
               {"held_back", log_gate_.TakeHeldBack()}});
    }
    return;
  }
  const auto it = requests_.find(serial);
  if (it == requests_.end()) return;
  if (it->second->dropped) return Forget(*it->second);
  Finish(*it->second, status);
}

void LaneImpl::AwaitForwards() {
  if (forwards_ > 0) options_.replica_sink->EndBy(stop_at_);
  while (forwards_ > 0) {
    last_turn_ns_.store(absl::ToUnixNanos(SteadyNow()), std::memory_order_relaxed);
    worker_->Progress();
    if (!mailbox_->Run()) sched_yield();
  }
}

void LaneImpl::TellDropped(const std::vector<ChunkId>& chunks) {
  if (stopping_) return;  // whoever is primary next finds them unused
  for (const ChunkId& chunk : chunks) {
    ReplicaWrite write;
    write.kind = ReplicaWrite::Kind::kDrop;
    write.chunk = chunk;
    if (!Address(write)) continue;
    write.deadline = SteadyNow() + options_.forward_patience;
    Forward(std::move(write), kNoSerial);
  }
}

void LaneImpl::Drop(LaneRequest& request) {
  const wire::IdEntry& chunk = std::get<DropRequest>(request.parsed.body).chunk;
  store_->DropOpen({.hi = chunk.chunk_hi, .lo = chunk.chunk_lo});
  Finish(request, absl::OkStatus());
}

void LaneImpl::List(LaneRequest& request) {
  const wire::ListBody& list = std::get<ListRequest>(request.parsed.body).list;
  const uint32_t layers = options_.layout.layers;
  const size_t room =
      worker_->max_header_bytes() - sizeof(wire::ReplyHeader) - sizeof(wire::ListReplyBody);
  ChunkListing listing =
      store_->ListSlot(static_cast<Slot>(list.slot), {.hi = list.after_hi, .lo = list.after_lo},
                       std::min<uint32_t>(list.limit, room / sizeof(wire::StatEntry)),
                       /*quarantined=*/true, SteadyNow());
  std::vector<wire::StatEntry> entries;
  std::vector<uint32_t> layer_tokens;
  size_t used = 0;
  for (const ChunkInfo& chunk : listing.chunks) {
    used += sizeof(wire::StatEntry) + (chunk.sealed ? 0 : layers * sizeof(uint32_t));
    if (used > room) {
      listing.more = true;
      break;
    }
    entries.push_back({.chunk_hi = chunk.id.hi,
                       .chunk_lo = chunk.id.lo,
                       .present = chunk.lost ? 0u : 1u,
                       .sealed = chunk.sealed,
                       .tokens = chunk.tokens,
                       .pages = chunk.pages,
                       .checksum = chunk.checksum});
    layer_tokens.insert(layer_tokens.end(), chunk.layer_tokens.begin(), chunk.layer_tokens.end());
  }
  // A header that does not hold one entry would be asked again and again.
  if (entries.empty() && listing.more) {
    return Finish(request, absl::ResourceExhaustedError("a reply does not hold one chunk"));
  }
  BuildListReply(ReplyTo(request.parsed.header.request_id), entries, layers, layer_tokens,
                 listing.more, &scratch_);
  SendReply(request, wire::Code::kOk);
}

}  // namespace latentd
