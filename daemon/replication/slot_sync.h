// `SlotSync` makes this node a holder of the slots that it joins: it learns what their primary has,
// copies what is missing here, and claims them once nothing is.
//
// A slot that this node joins:
//     waiting -- its primary's list ------> copying   (what the list has and this node has not)
//     waiting -- the list failed ---------> waiting, after a while
//     copying -- all copied --------------> waiting   (to see whether that was all)
//     copying -- nothing was missing -----> claimed
//     copying -- some could not be had ---> waiting, after a while
//     copying -- no holder has it whole --> as if copied: it is DATA_LOSS here as it is there
//     any     -- placed otherwise --------> waiting   (what was copied stays)
//     any     -- not joined any more -----> forgotten
//
// Why a claim is true: a primary that lists a slot as it is placed gives this node whatever it
// takes from then on. Whatever it took before is in the list. So an open chunk that was copied since
// the slot was placed so counts as copied, however much it has grown, and so does a sealed one that
// was evicted here since; an open one that the primary has given up is dropped.
//
// A chunk of this node that is damaged, whether it was found so here or came so, is kept in mind: it
// is fetched from whoever holds its slot, again and again, less and less often, and at each new table,
// until it is whole or the slot is elsewhere.
//
// Empty slots cost a share of one list: many are asked for at once. Nothing is kept of a slot but a
// few words, and of a chunk only while its slot is copied.
//
// Pure but for what it is given. Scheduler's thread only.
#ifndef LATENTD_DAEMON_REPLICATION_SLOT_SYNC_H_
#define LATENTD_DAEMON_REPLICATION_SLOT_SYNC_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/etcd/scheduler.h"
#include "daemon/membership/membership.h"
#include "daemon/replication/chunk_copier.h"
#include "daemon/replication/copy_source.h"
#include "routing/routing_table.h"

namespace latentd {

struct SlotSyncOptions {
  NodeId self;
  CopyOptions copy;
  uint32_t slots_per_list = 256;
  uint32_t lists = 4;          // under way
  uint32_t max_copies = 1024;  // queued or under way, before other slots are listed
  absl::Duration first_retry = absl::Milliseconds(50);
  absl::Duration longest_retry = absl::Seconds(5);
  absl::Duration longest_repair_retry = absl::Minutes(1);
};

struct SlotSyncProgress {
  uint32_t joining = 0;  // slots that this node joins
  uint32_t claimed = 0;  // of those
  uint64_t copies = 0;   // of chunks, queued or under way
  CopyCounts counts;     // since the start
  uint64_t lists = 0;
  uint64_t failed_lists = 0;
  uint64_t repaired = 0;
  uint64_t damaged = 0;               // chunks to be repaired
  std::vector<ChunkId> damaged_some;  // the first of them
  absl::Status last_failure;
};

class SlotSync {
 public:
  using Claim = std::function<void(std::vector<SlotClaim>)>;

  // All must outlive this. `claim` runs inside events; it must not call back.
  SlotSync(SlotSyncOptions options, const Layout& layout, Scheduler* scheduler, PeerChunks* peers,
           LocalChunks* local, Claim claim);
  ~SlotSync();
  SlotSync(const SlotSync&) = delete;
  SlotSync& operator=(const SlotSync&) = delete;

  // The newest table.
  void SetTable(TablePtr table);
  // A sealed chunk of this node turned out to be damaged, and has been dropped: it is fetched anew
  // from whoever else holds its slot, once somebody does.
  void Repair(const ChunkState& chunk);

  SlotSyncProgress progress() const;

 private:
  enum class Phase : uint8_t { kWaiting, kListing, kCopying, kClaimed };
  struct Copied {
    bool sealed = false;
    Epoch placed{};     // of the slot when the chunk was copied
    bool lost = false;  // everywhere
  };
  struct Joining {
    Epoch placed{};
    Generation generation{};
    Phase phase = Phase::kWaiting;
    bool queued = false;  // in waiting_
    uint32_t round = 0;   // of this slot's life here: answers to earlier ones are not for it
    uint32_t copies_left = 0;
    bool copied_any = false;
    bool failed = false;
    uint32_t failures = 0;  // in a row
    std::vector<uint64_t> copies;
    absl::flat_hash_map<ChunkId, Copied> copied;
    absl::flat_hash_map<ChunkId, uint32_t> mismatches;  // times that no source had it whole
  };
  struct Damaged {
    ChunkState chunk;
    uint32_t failures = 0;
    bool busy = false;  // looked for here, or being copied
    TimerId timer{};    // of the next try
  };
  struct Asked {
    Slot slot{};
    uint32_t round = 0;
  };

  // Repairs, unless the chunk has been published anew meanwhile.
  void LookAgain(const ChunkId& id);
  void TryRepair(const ChunkId& id);
  void RepairEnded(const ChunkId& id, const absl::Status& status);
  void ForgetDamaged(const ChunkId& id);
  void RetryDamaged();
  bool HoldsOrJoins(Slot slot) const;
  Joining* Find(const Asked& asked);
  void Enqueue(Slot slot, Joining& joining);
  void StartOver(Joining& joining);
  void Pump();
  void PumpSoon();
  void ListAt(const NodeId& node, std::vector<Slot> slots);
  void Listed(const NodeId& node, const std::vector<Asked>& asked,
              absl::StatusOr<std::vector<ChunkState>> listed);
  void Compare(const std::vector<Asked>& asked, std::vector<ChunkState> there,
               std::vector<ChunkState> here);
  void CopyMissing(Slot slot, Joining& joining, const std::vector<ChunkState>& there,
                   const std::vector<ChunkState>& here);
  void CopyOne(Slot slot, Joining& joining, const ChunkState& chunk, uint32_t tokens_here);
  void CopyEnded(const Asked& asked, const ChunkState& chunk, const absl::Status& status);
  // The slot does not wait for what no holder has: that is lost here too.
  void TakeAsLost(const Asked& asked, const ChunkState& chunk);
  void Settle(Slot slot, Joining& joining);
  void Fail(Slot slot, Joining& joining, const absl::Status& status);
  void FlushClaims();
  absl::Duration RetryAfter(uint32_t failures, absl::Duration longest) const;
  // Holders of the slot but this node, another one first for each chunk.
  std::vector<NodeId> SourcesOf(const ChunkId& chunk) const;

  const SlotSyncOptions options_;
  const uint32_t layers_;
  Scheduler* const scheduler_;
  PeerChunks* const peers_;
  LocalChunks* const local_;
  const Claim claim_;
  ChunkCopier copier_;

  TablePtr table_;
  absl::btree_map<Slot, Joining> slots_;
  std::map<NodeId, std::deque<Slot>> waiting_;  // by primary
  absl::btree_map<ChunkId, Damaged> damaged_;
  std::vector<SlotClaim> claims_;  // to be handed on
  uint32_t claimed_ = 0;
  uint32_t lists_under_way_ = 0;
  TimerId pump_timer_{};
  uint32_t next_round_ = 1;
  uint64_t lists_ = 0;
  uint64_t failed_lists_ = 0;
  uint64_t repaired_ = 0;
  absl::Status last_failure_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_SLOT_SYNC_H_
