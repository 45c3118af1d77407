#include "daemon/replication/slot_sync.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

constexpr size_t kDamagedNamed = 8;
// Of a chunk that the primary takes for whole, and nobody gives with its checksum: bytes may have
// changed on the way.
constexpr uint32_t kMismatchesBeforeLost = 3;

// Tokens in sum over the layers.
uint64_t AllTokens(const ChunkState& chunk, uint32_t layers) {
  if (chunk.layer_tokens.empty()) return uint64_t{chunk.tokens} * layers;
  uint64_t sum = 0;
  for (const uint32_t tokens : chunk.layer_tokens) sum += tokens;
  return sum;
}

// The chunks of one slot among those sorted by id.
std::vector<ChunkState> OfSlot(const std::vector<ChunkState>& sorted, Slot slot) {
  const auto before = [](const ChunkState& chunk, Slot s) { return chunk.id.slot() < s; };
  auto first = std::lower_bound(sorted.begin(), sorted.end(), slot, before);
  auto last = first;
  while (last != sorted.end() && last->id.slot() == slot) ++last;
  return {first, last};
}

const ChunkState* FindIn(const std::vector<ChunkState>& chunks, const ChunkId& id) {
  const auto found =
      std::lower_bound(chunks.begin(), chunks.end(), id,
                       [](const ChunkState& chunk, const ChunkId& i) { return chunk.id < i; });
  return found == chunks.end() || found->id != id ? nullptr : &*found;
}

void SortById(std::vector<ChunkState>& chunks) {
  std::sort(chunks.begin(), chunks.end(),
            [](const ChunkState& a, const ChunkState& b) { return a.id < b.id; });
}

}  // namespace

SlotSync::SlotSync(SlotSyncOptions options, const Layout& layout, Scheduler* scheduler,
                   PeerChunks* peers, LocalChunks* local, Claim claim)
    : options_(std::move(options)),
      layers_(layout.layers),
      scheduler_(scheduler),
      peers_(peers),
      local_(local),
      claim_(std::move(claim)),
      copier_(options_.copy, layout, scheduler, peers, local) {}

SlotSync::~SlotSync() {
  if (pump_timer_ != TimerId{}) scheduler_->Cancel(pump_timer_);
  for (const auto& [id, damaged] : damaged_) {
    if (damaged.timer != TimerId{}) scheduler_->Cancel(damaged.timer);
  }
}

void SlotSync::SetTable(TablePtr table) {
  table_ = std::move(table);
  const auto self = table_->FindNode(options_.self);
  waiting_.clear();
  for (uint32_t s = 0; s < kSlotCount; ++s) {
    const Slot slot{static_cast<uint16_t>(s)};
    const auto known = slots_.find(slot);
    if (!self.has_value() || !table_->Joins(*self, slot)) {
      if (known == slots_.end()) continue;
      StartOver(known->second);  // what is under way for it is of no use any more
      slots_.erase(known);
      continue;
    }
    Joining& joining = known == slots_.end() ? slots_[slot] : known->second;
    if (joining.placed != table_->PlacedOf(slot)) {
      StartOver(joining);
      joining.placed = table_->PlacedOf(slot);
      joining.failures = 0;
      // Another generation: the slot has begun anew, empty.
      if (joining.generation != table_->GenerationOf(slot)) joining.copied.clear();
      joining.generation = table_->GenerationOf(slot);
    }
    joining.queued = false;
    if (joining.phase == Phase::kWaiting) Enqueue(slot, joining);
  }
  RetryDamaged();
  PumpSoon();
}

bool SlotSync::HoldsOrJoins(Slot slot) const {
  const auto self = table_->FindNode(options_.self);
  return self.has_value() && (table_->Holds(*self, slot) || table_->Joins(*self, slot));
}

void SlotSync::Repair(const ChunkState& chunk) {
  Damaged& damaged = damaged_[chunk.id];
  damaged.chunk = chunk;
  damaged.chunk.lost = false;
  // The lane may go by a newer table: the next one tells.
  if (table_ != nullptr && !damaged.busy && HoldsOrJoins(chunk.id.slot())) TryRepair(chunk.id);
}

void SlotSync::RetryDamaged() {
  std::vector<ChunkId> ids;
  for (const auto& [id, damaged] : damaged_) ids.push_back(id);
  for (const ChunkId& id : ids) {
    damaged_[id].failures = 0;
    LookAgain(id);
  }
}

void SlotSync::LookAgain(const ChunkId& id) {
  Damaged& damaged = damaged_.at(id);
  if (damaged.busy) return;
  damaged.busy = true;
  local_->List({id.slot()}, [this, alive = std::weak_ptr<int>(alive_),
                             id](const std::vector<ChunkState>& here) {
    if (alive.expired()) return;
    Damaged& looked_for = damaged_.at(id);
    looked_for.busy = false;
    const bool whole = std::any_of(here.begin(), here.end(), [&](const ChunkState& chunk) {
      return chunk.id == id && chunk.sealed && chunk.checksum == looked_for.chunk.checksum;
    });
    whole ? ForgetDamaged(id) : TryRepair(id);
  });
}

void SlotSync::TryRepair(const ChunkId& id) {
  Damaged& damaged = damaged_.at(id);
  if (!HoldsOrJoins(id.slot())) return ForgetDamaged(id);
  if (damaged.timer != TimerId{}) scheduler_->Cancel(std::exchange(damaged.timer, {}));
  ChunkCopy copy{
      .chunk = damaged.chunk, .placed = table_->PlacedOf(id.slot()), .sources = SourcesOf(id)};
  if (copy.sources.empty()) {  // until there is another table
    last_failure_ = absl::DataLossError(
        absl::StrCat("chunk ", ToString(id), " is damaged, and nobody else holds it"));
    return;
  }
  damaged.busy = true;
  copier_.Start(std::move(copy), [this, id](const absl::Status& s) { RepairEnded(id, s); });
}

void SlotSync::RepairEnded(const ChunkId& id, const absl::Status& status) {
  if (status.ok()) {
    ++repaired_;
    return ForgetDamaged(id);
  }
  last_failure_ =
      absl::Status(status.code(), absl::StrCat("repair: ", std::string(status.message())));
  Damaged& damaged = damaged_.at(id);
  damaged.busy = false;
  damaged.timer =
      scheduler_->After(RetryAfter(++damaged.failures, options_.longest_repair_retry), [this, id] {
        damaged_.at(id).timer = TimerId{};
        LookAgain(id);
      });
}

void SlotSync::ForgetDamaged(const ChunkId& id) {
  const auto found = damaged_.find(id);
  if (found->second.timer != TimerId{}) scheduler_->Cancel(found->second.timer);
  damaged_.erase(found);
}

SlotSyncProgress SlotSync::progress() const {
  std::vector<ChunkId> some;
  for (auto it = damaged_.begin(); it != damaged_.end() && some.size() < kDamagedNamed; ++it) {
    some.push_back(it->first);
  }
  return {.joining = static_cast<uint32_t>(slots_.size()),
          .claimed = claimed_,
          .copies = copier_.copies(),
          .counts = copier_.counts(),
          .lists = lists_,
          .failed_lists = failed_lists_,
          .repaired = repaired_,
          .damaged = damaged_.size(),
          .damaged_some = std::move(some),
          .last_failure = last_failure_};
}

SlotSync::Joining* SlotSync::Find(const Asked& asked) {
  const auto found = slots_.find(asked.slot);
  if (found == slots_.end() || found->second.round != asked.round) return nullptr;
  return &found->second;
}

void SlotSync::Enqueue(Slot slot, Joining& joining) {
  if (std::exchange(joining.queued, true)) return;
  waiting_[table_->node(table_->PrimaryOf(slot)).id].push_back(slot);
}

void SlotSync::StartOver(Joining& joining) {
  for (const uint64_t copy : joining.copies) copier_.Cancel(copy);
  joining.copies.clear();
  joining.copies_left = 0;
  joining.copied_any = false;
  joining.failed = false;
  if (joining.phase == Phase::kClaimed) --claimed_;
  joining.phase = Phase::kWaiting;
  joining.round = next_round_++;
}

void SlotSync::PumpSoon() {
  if (pump_timer_ != TimerId{}) return;
  pump_timer_ = scheduler_->After(absl::ZeroDuration(), [this] {
    pump_timer_ = TimerId{};
    Pump();
  });
}

void SlotSync::Pump() {
  while (!waiting_.empty() && lists_under_way_ < options_.lists &&
         copier_.copies() < options_.max_copies) {
    auto& [node, queue] = *waiting_.begin();
    std::vector<Slot> slots;
    while (!queue.empty() && slots.size() < options_.slots_per_list) {
      slots.push_back(queue.front());
      queue.pop_front();
    }
    const NodeId primary = node;
    if (queue.empty()) waiting_.erase(waiting_.begin());
    ListAt(primary, std::move(slots));
  }
}

void SlotSync::ListAt(const NodeId& node, std::vector<Slot> slots) {
  std::vector<SlotClaim> wanted;
  std::vector<Asked> asked;
  for (const Slot slot : slots) {
    Joining& joining = slots_.at(slot);
    joining.phase = Phase::kListing;
    joining.queued = false;
    wanted.push_back({slot, joining.placed});
    asked.push_back({slot, joining.round});
  }
  ++lists_;
  ++lists_under_way_;
  peers_->List(node, std::move(wanted),
               [this, alive = std::weak_ptr<int>(alive_), node,
                asked = std::move(asked)](absl::StatusOr<std::vector<ChunkState>> listed) {
                 if (!alive.expired()) Listed(node, asked, std::move(listed));
               });
}

void SlotSync::Listed(const NodeId& node, const std::vector<Asked>& asked,
                      absl::StatusOr<std::vector<ChunkState>> listed) {
  if (!listed.ok()) {
    --lists_under_way_;
    ++failed_lists_;
    const absl::Status status(
        listed.status().code(),
        absl::StrCat("list at ", node, ": ", std::string(listed.status().message())));
    for (const Asked& a : asked) {
      if (Joining* joining = Find(a); joining != nullptr) Fail(a.slot, *joining, status);
    }
    return Pump();
  }
  SortById(*listed);
  std::vector<Slot> to_compare;
  for (const Asked& a : asked) {
    Joining* joining = Find(a);
    if (joining == nullptr) continue;
    if (OfSlot(*listed, a.slot).empty() && joining->copied.empty()) {
      joining->phase = Phase::kCopying;
      Settle(a.slot, *joining);
    } else {
      to_compare.push_back(a.slot);
    }
  }
  FlushClaims();
  if (to_compare.empty()) {
    --lists_under_way_;
    return Pump();
  }
  local_->List(std::move(to_compare),
               [this, alive = std::weak_ptr<int>(alive_), asked,
                there = *std::move(listed)](std::vector<ChunkState> here) mutable {
                 if (alive.expired()) return;
                 Compare(asked, std::move(there), std::move(here));
                 --lists_under_way_;
                 Pump();
               });
}

void SlotSync::Compare(const std::vector<Asked>& asked, std::vector<ChunkState> there,
                       std::vector<ChunkState> here) {
  SortById(here);
  for (const Asked& a : asked) {
    Joining* joining = Find(a);
    if (joining == nullptr || joining->phase != Phase::kListing) continue;
    CopyMissing(a.slot, *joining, OfSlot(there, a.slot), OfSlot(here, a.slot));
  }
  FlushClaims();
}

void SlotSync::CopyMissing(Slot slot, Joining& joining, const std::vector<ChunkState>& there,
                           const std::vector<ChunkState>& here) {
  joining.phase = Phase::kCopying;
  for (const ChunkState& chunk : there) {
    const ChunkState* mine = FindIn(here, chunk.id);
    const auto copied = joining.copied.find(chunk.id);
    const bool was_copied = copied != joining.copied.end();
    if (chunk.sealed) {
      if (mine != nullptr && mine->sealed && mine->checksum == chunk.checksum &&
          mine->tokens == chunk.tokens) {
        continue;
      }
      if (was_copied && copied->second.lost) continue;                       // damaged_ has it
      if (mine == nullptr && was_copied && copied->second.sealed) continue;  // evicted since
    } else {
      // Sealed here it is either the same, of which the list was too early to know, or another:
      // copying tells.
      if (was_copied && copied->second.placed == joining.placed) continue;
      if (AllTokens(chunk, layers_) == 0) continue;
    }
    CopyOne(slot, joining, chunk, mine == nullptr || mine->sealed ? 0 : mine->tokens);
  }
  for (const ChunkState& mine : here) {
    const auto copied = joining.copied.find(mine.id);
    if (mine.sealed || copied == joining.copied.end() || FindIn(there, mine.id) != nullptr) {
      continue;
    }
    joining.copied.erase(copied);
    local_->Drop(mine.id, joining.placed, [](const absl::Status&) {});
  }
  Settle(slot, joining);
}

void SlotSync::CopyOne(Slot slot, Joining& joining, const ChunkState& chunk, uint32_t tokens_here) {
  ++joining.copies_left;
  joining.copied_any = true;
  ChunkCopy copy{.chunk = chunk,
                 .placed = joining.placed,
                 .tokens_here = tokens_here,
                 .joining = true,
                 .sources = SourcesOf(chunk.id)};
  // Only the primary has all of an open chunk at once.
  if (!chunk.sealed) copy.sources = {table_->node(table_->PrimaryOf(slot)).id};
  const Asked asked{slot, joining.round};
  joining.copies.push_back(copier_.Start(
      std::move(copy),
      [this, asked, chunk](const absl::Status& status) { CopyEnded(asked, chunk, status); }));
}

void SlotSync::CopyEnded(const Asked& asked, const ChunkState& chunk, const absl::Status& status) {
  Joining* joining = Find(asked);
  if (joining == nullptr) return;
  if (chunk.sealed && absl::IsDataLoss(status)) ++joining->mismatches[chunk.id];
  const bool nobody_has_it = chunk.lost
                                 ? absl::IsDataLoss(status) || absl::IsNotFound(status)
                                 : chunk.sealed && absl::IsDataLoss(status) &&
                                       joining->mismatches[chunk.id] >= kMismatchesBeforeLost;
  if (nobody_has_it) return TakeAsLost(asked, chunk);
  --joining->copies_left;
  if (status.ok()) {
    joining->copied[chunk.id] = {.sealed = chunk.sealed, .placed = joining->placed};
  } else {
    joining->failed = true;
    last_failure_ = status;
  }
  Settle(asked.slot, *joining);
  FlushClaims();
  PumpSoon();
}

void SlotSync::TakeAsLost(const Asked& asked, const ChunkState& chunk) {
  const auto marked = [this, alive = std::weak_ptr<int>(alive_), asked,
                       chunk](const absl::Status& status) {
    if (alive.expired()) return;
    Joining* joining = Find(asked);
    if (joining == nullptr) return;
    --joining->copies_left;
    if (status.ok()) {
      joining->copied[chunk.id] = {.sealed = true, .placed = joining->placed, .lost = true};
      last_failure_ = absl::DataLossError(
          absl::StrCat("chunk ", ToString(chunk.id), " is damaged wherever it was"));
      Repair(chunk);
    } else {
      // Something else is sealed here under the id.
      if (absl::IsAlreadyExists(status)) {
        local_->Discard(chunk.id, joining->placed, [](const absl::Status&) {});
      }
      joining->failed = true;
      last_failure_ = status;
    }
    Settle(asked.slot, *joining);
    FlushClaims();
    PumpSoon();
  };
  local_->MarkLost(chunk.id, chunk.tokens, chunk.checksum, Find(asked)->placed, marked);
}

void SlotSync::Settle(Slot slot, Joining& joining) {
  if (joining.copies_left > 0) return;
  joining.copies.clear();
  if (joining.failed) return Fail(slot, joining, last_failure_);
  joining.failures = 0;
  if (joining.copied_any) {
    StartOver(joining);
    Enqueue(slot, joining);
    PumpSoon();
    return;
  }
  joining.phase = Phase::kClaimed;
  joining.copied = {};
  joining.mismatches = {};
  ++claimed_;
  claims_.push_back({slot, joining.placed});
}

void SlotSync::Fail(Slot slot, Joining& joining, const absl::Status& status) {
  last_failure_ = status;
  const uint32_t failures = joining.failures + 1;
  StartOver(joining);
  joining.failures = failures;
  const Asked asked{slot, joining.round};
  // Found waiting by a new table, it is listed at once.
  scheduler_->After(RetryAfter(failures, options_.longest_retry),
                    [this, alive = std::weak_ptr<int>(alive_), asked] {
                      if (alive.expired()) return;
                      Joining* waiting = Find(asked);
                      if (waiting == nullptr || waiting->phase != Phase::kWaiting) return;
                      Enqueue(asked.slot, *waiting);
                      Pump();
                    });
}

void SlotSync::FlushClaims() {
  if (claims_.empty()) return;
  claim_(std::exchange(claims_, {}));
}

absl::Duration SlotSync::RetryAfter(uint32_t failures, absl::Duration longest) const {
  const absl::Duration delay =
      options_.first_retry * static_cast<double>(uint64_t{1} << std::min(failures - 1, 20u));
  return std::min(delay, longest);
}

std::vector<NodeId> SlotSync::SourcesOf(const ChunkId& chunk) const {
  std::vector<NodeId> sources;
  for (const NodeIndex index : table_->HoldersOf(chunk.slot())) {
    if (table_->node(index).id != options_.self) sources.push_back(table_->node(index).id);
  }
  if (!sources.empty()) {
    std::rotate(sources.begin(), sources.begin() + (chunk.lo % sources.size()), sources.end());
  }
  return sources;
}

}  // namespace latentd
