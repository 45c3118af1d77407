// Tables come, slots go. What this lane has of a slot when its part in it changes:
//
//     it has no part any more     kept for slot_grace, in case the slot comes back, then dropped
//                                 (what has leases, once they are over)
//     it joins, as it is placed   sealed chunks are kept, for they never change. Open ones are dropped,
//     now; or comes back          whatever it was before: tables may have been left out in between, and
//                                 what their primary did with them meanwhile was not told here
//     it begins anew              the same; unless this lane held it and holds it, which says that its
//     (another generation)        memory was never in doubt
//     it is no longer primary     open chunks become the node's: the sessions that published them go
//                                 on elsewhere, and may end here
//
// Whoever reads by a table from before that is answered as long as this lane holds the slot, but not by
// one from before the slot began anew. So who is refused where the slot has gone is answered at the
// holder that it still has, though tables take some tens of milliseconds to reach requesters.
//
// So every byte that is answered was acknowledged under the slot's present generation, or lies in a
// chunk that was sealed, and then it is what its publisher vouched for.
#include <utility>

#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"

namespace latentd {
namespace {

// Chunks that are dropped in one turn.
constexpr uint32_t kDropsPerTurn = 256;
constexpr absl::Duration kLeasedRetry = absl::Seconds(1);
constexpr absl::Duration kOrphansEvery = absl::Seconds(10);

}  // namespace

void LaneImpl::TakeTable(std::shared_ptr<const SlotOwnership> slots) {
  const std::shared_ptr<const SlotOwnership> before = std::exchange(slots_, std::move(slots));
  if (before == nullptr) {  // nothing is here yet
    for (uint32_t s = 0; s < kSlotCount; ++s) {
      generation_since_.push_back(slots_->PlacedOf(static_cast<Slot>(s)));
    }
    return;
  }
  const absl::Time due = SteadyNow() + options_.slot_grace;
  for (uint32_t s = 0; s < kSlotCount; ++s) {
    const auto slot = static_cast<Slot>(s);
    if (before->GenerationOf(slot) != slots_->GenerationOf(slot)) {
      generation_since_[s] = slots_->epoch();
    }
    const SlotRole was = before->RoleOf(slot), is = slots_->RoleOf(slot);
    if (was == is && was != SlotRole::kJoining) continue;
    if (is == SlotRole::kNone) {
      leaving_[slot] = {.due = due, .generation = before->GenerationOf(slot)};
      continue;
    }
    Generation generation = before->GenerationOf(slot);
    if (was == SlotRole::kNone) {
      const auto left = leaving_.find(slot);
      if (left == leaving_.end()) continue;  // nothing of it is here
      generation = left->second.generation;
      leaving_.erase(left);
    }
    const bool anew = was < SlotRole::kHolder && generation != slots_->GenerationOf(slot);
    const bool joins =
        is == SlotRole::kJoining &&
        (was != SlotRole::kJoining || before->PlacedOf(slot) != slots_->PlacedOf(slot));
    if (anew || joins) {
      store_->DropOpenOfSlot(slot);
    } else if (was == SlotRole::kPrimary) {
      store_->AdoptOpenOfSlot(slot);
    }
  }
}

bool LaneImpl::AnswersBehind(Slot slot, Epoch epoch) const {
  return slots_->RoleOf(slot) >= SlotRole::kHolder && epoch != Epoch{} &&
         epoch < slots_->PlacedOf(slot) && epoch >= generation_since_[ToInt(slot)];
}

void LaneImpl::DropLeaving(absl::Time now) {
  uint64_t left = kDropsPerTurn;
  for (auto it = leaving_.begin(); it != leaving_.end() && left > 0;) {
    if (it->second.due > now) {
      ++it;
      continue;
    }
    const uint64_t before = store_->counts().released_chunks;
    const bool gone = store_->DropSlot(it->first, static_cast<uint32_t>(left));
    left -= store_->counts().released_chunks - before;
    if (gone) {
      it = leaving_.erase(it);
    } else if (left > 0) {  // leases
      it->second.due = now + kLeasedRetry;
      ++it;
    }
  }
}

// An open chunk that came from a primary which is no more, and whose publisher is gone with it.
void LaneImpl::DropOrphans(absl::Time now) {
  if (now < next_orphans_) return;
  next_orphans_ = now + kOrphansEvery;
  std::vector<ChunkId> dropped;
  for (const ChunkId& chunk : store_->Orphans(now - options_.max_lease)) {
    // Elsewhere the primary decides.
    if (slots_ == nullptr || slots_->RoleOf(chunk.slot()) != SlotRole::kPrimary) continue;
    if (store_->DropOpen(chunk)) dropped.push_back(chunk);
  }
  TellDropped(dropped);
}

}  // namespace latentd
