// `LatentStore` owns a lane's cache memory: it hands out pages, knows which records of which chunk
// have arrived, keeps what is in use, and evicts. Requests come already authenticated and bounded;
// every error names the chunk and the thing that is wrong with it, and leaves the store as it was.
//
// Records lie in memory of the host or of a device; nothing else here depends on which. Where it is
// a device's, Publish, Fetch and what compares records also answer INTERNAL, once the device has
// failed: then nothing that the store holds can be had any more.
//
// Lane thread only; nothing here locks, blocks (but for a device's copies) or reads a clock: `now`
// is the caller's, and never goes back. Page tables returned by PinForAttend stay valid until the
// matching Unpin, whatever happens to the chunk meanwhile.
#ifndef LATENTD_DAEMON_STORE_LATENT_STORE_H_
#define LATENTD_DAEMON_STORE_LATENT_STORE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/session/session.h"
#include "daemon/store/arrived_tokens.h"
#include "daemon/store/chunk_info.h"
#include "daemon/store/host_memory.h"
#include "daemon/store/page_arena.h"
#include "daemon/store/record_range.h"
#include "kernels/mla.h"
#include "kernels/record_memory.h"
#include "routing/ids.h"
#include "routing/layout.h"

namespace latentd {

struct Chunk;

// The node itself, as a publisher: of chunks that came from other nodes. It never ends, and no share
// of the cache bounds it. No session has this token.
inline constexpr SessionToken kNodeSession{};

struct StoreOptions {
  Layout layout;
  uint64_t cache_bytes = 0;
  double high_watermark = 0.95;  // used share of pages above which sealed chunks are evicted ...
  double low_watermark = 0.90;   // ... down to this
  uint32_t max_chunks = 1 << 20;
  uint64_t max_open_pages = std::numeric_limits<uint64_t>::max();  // of one session
  absl::Duration max_lease = absl::Minutes(10);
};

// A chunk that work in flight reads. `chunk` is for Unpin alone.
struct ChunkPin {
  const uint32_t* page_ids = nullptr;
  Chunk* chunk = nullptr;
};

struct StoreCounts {
  uint64_t pages_total = 0;
  uint64_t pages_free = 0;
  uint64_t chunks_open = 0;
  uint64_t chunks_sealed = 0;
  uint64_t chunks_pinned = 0;     // by work in flight or leases
  uint64_t chunks_dropped = 0;    // gone, but work in flight still reads them
  uint64_t evicted_chunks = 0;    // ever
  uint64_t discarded_chunks = 0;  // ever: open ones whose sessions ended
  uint64_t published_bytes = 0;   // ever
  uint64_t released_chunks = 0;   // ever: their slots went elsewhere, or their primary gave them up
  uint64_t chunks_quarantined = 0;
  uint64_t corrupt_chunks = 0;  // ever
  uint64_t scrubbed_bytes = 0;  // ever

  friend bool operator==(const StoreCounts&, const StoreCounts&) = default;
};

// What one step of Scrub did.
struct ScrubStep {
  uint64_t bytes = 0;                // read and hashed
  std::optional<ChunkInfo> corrupt;  // what it was when it was sealed; it is quarantined now
  bool end_of_pass = false;          // nothing is left that this pass has not read
};

class LatentStore {
 public:
  // A publish may leave at most this many tokens unwritten between what a chunk has and what comes,
  // and a layer's tokens may arrive in at most this many separate runs: both bound what bookkeeping
  // a chunk can cost.
  static constexpr uint32_t kMaxHoleTokens = 65536;
  static constexpr size_t kMaxRuns = 1024;

  static absl::StatusOr<std::unique_ptr<LatentStore>> Create(
      StoreOptions options, const AllocateRecordMemory& allocate = MakeHostMemory);
  ~LatentStore();
  LatentStore(const LatentStore&) = delete;
  LatentStore& operator=(const LatentStore&) = delete;

  // Stores records [layers][tokens][record], published by `session`, or by kNodeSession. Records that are there already must come with the same
  // bytes. All or nothing:
  //
  //  * INVALID_ARGUMENT: an empty range, a payload of another size, a record that is not finite
  //    (names its layer and token).
  //  * OUT_OF_RANGE: a layer that the layout lacks, tokens too far ahead or beyond what the cache
  //    could hold.
  //  * ALREADY_EXISTS: other bytes for a record that is there (names its layer and token).
  //  * FAILED_PRECONDITION: tokens beyond the end of a sealed chunk.
  //  * RESOURCE_EXHAUSTED: no page or no chunk can be had, even by eviction (names the capacity, and
  //    when to try again); or the session has max_open_pages in open chunks (names both).
  absl::Status Publish(const ChunkId& id, const RecordRange& range,
                       std::span<const std::byte> records, const SessionToken& session,
                       absl::Time now);

  // Closes a chunk at `tokens` tokens. The same seal again is OK.
  //   NOT_FOUND, INVALID_ARGUMENT (no tokens, or records beyond them), FAILED_PRECONDITION (names
  //   the first missing record), DATA_LOSS (checksum), ALREADY_EXISTS (sealed otherwise)
  absl::Status Seal(const ChunkId& id, uint32_t tokens, uint64_t checksum, absl::Time now);

  // Pins the first `visible` tokens of one layer for work in flight: NOT_FOUND, or OUT_OF_RANGE
  // unless every one of them has arrived.
  absl::StatusOr<ChunkPin> PinForAttend(const ChunkId& id, uint32_t layer, uint32_t visible,
                                        absl::Time now);
  void Unpin(const ChunkPin& pin, absl::Time now);

  // Bytes of a range whose every record has arrived; INVALID_ARGUMENT, NOT_FOUND, OUT_OF_RANGE.
  absl::StatusOr<uint64_t> FetchBytes(const ChunkId& id, const RecordRange& range) const;
  // Copies it out as [layers][tokens][record]. REQUIRES: FetchBytes just said out.size().
  absl::Status Fetch(const ChunkId& id, const RecordRange& range, std::span<std::byte> out,
                     absl::Time now);

  // Keeps a chunk from eviction until `ttl` from now; again: from now on.
  //
  //  * NOT_FOUND
  //  * INVALID_ARGUMENT: longer than max_lease (names it).
  //  * FAILED_PRECONDITION: it is open, and only others publish it: it would go with them.
  absl::Status Lease(const ChunkId& id, const SessionToken& session, absl::Duration ttl,
                     absl::Time now);
  // What Lease would say.
  absl::Status CheckLease(const ChunkId& id, const SessionToken& session, absl::Duration ttl) const;
  // Ends a lease. False when there was none.
  bool Release(const ChunkId& id, const SessionToken& session, absl::Time now);
  void ExpireLeases(absl::Time now);
  // Ends a session's leases and drops the open chunks that only it published; says which.
  std::vector<ChunkId> EndSession(const SessionToken& session, absl::Time now);
  // Whether the session has leases or open chunks here.
  bool HoldsAnything(const SessionToken& session) const { return sessions_.contains(session); }

  bool Contains(const ChunkId& id) const { return chunks_.contains(id); }
  std::optional<ChunkInfo> Stat(const ChunkId& id, absl::Time now) const;
  // Chunks whose id starts with these hexadecimal digits; anything else matches nothing. Costs what
  // it lists; `total` only comes with no digits.
  ChunkListing List(std::string_view hex_prefix, uint32_t limit, absl::Time now) const;
  StoreCounts counts() const;

  // Slots, as they come and go with routing tables.
  //
  // Chunks of the slot after `after`, at most `limit`, with their layer_tokens. Quarantined ones are
  // left out, or listed as `lost`, as they were sealed, with no pages: whoever copies the slot must
  // miss them.
  ChunkListing ListSlot(Slot slot, const ChunkId& after, uint32_t limit, bool quarantined,
                        absl::Time now) const;
  // Drops at most `most` of the slot's chunks, but for those with leases; true once none is left.
  bool DropSlot(Slot slot, uint32_t most);
  // Drops the slot's open chunks.
  void DropOpenOfSlot(Slot slot);
  // Makes the slot's open chunks the node's, whoever published them: they no longer end with those.
  void AdoptOpenOfSlot(Slot slot);
  // Drops an open chunk. False when there is none.
  bool DropOpen(const ChunkId& id);
  // Drops whatever is here under the id, sealed or leased too, and forgets that it was quarantined.
  // False when there is nothing. For slots that this node does not answer for yet.
  bool Discard(const ChunkId& id);
  // Open chunks that are the node's alone and that nobody has used since `unused_since`.
  std::vector<ChunkId> Orphans(absl::Time unused_since) const;

  // Reads on through the sealed chunks, about `most_bytes`, and compares each with its checksum. One
  // that differs is quarantined: taken out, and answered DATA_LOSS by PinForAttend, FetchBytes,
  // CheckLease and Lease until it has been published and sealed anew. INTERNAL: the device.
  absl::StatusOr<ScrubStep> Scrub(uint64_t most_bytes, absl::Time now);

  // Scrub reads the chunk before those whose turn it is: somebody had other bytes of it. Whether it
  // will: not what is not sealed here, and some hundreds at most wait.
  bool ScrubSoon(const ChunkId& id);

  // Quarantines a chunk of which no records are to be had anywhere, as it was sealed elsewhere. OK if
  // it is here, sealed so. ALREADY_EXISTS: it was sealed otherwise here; RESOURCE_EXHAUSTED: as many
  // as chunks may be are quarantined.
  absl::Status MarkLost(const ChunkId& id, uint32_t tokens, uint64_t checksum);

  CacheView view() const;
  PageArena& arena() { return *arena_; }
  const Layout& layout() const { return options_.layout; }

  // For tests: recounts everything and names the first thing that does not add up.
  absl::Status CheckInvariants() const;

 private:
  struct Holdings {
    absl::flat_hash_set<ChunkId> publishing;
    absl::flat_hash_set<ChunkId> leases;
    uint64_t open_pages = 0;  // that its records brought to open chunks
  };
  struct Quarantined {
    uint32_t tokens = 0;
    uint64_t checksum = 0;
  };
  // How far the scrub is: `sum` is of the records before (layer, token) of that chunk.
  struct ScrubPlace {
    ChunkId id{};
    uint64_t serial = 0;  // of the chunk; 0: between chunks
    uint32_t layer = 0;
    uint32_t token = 0;
    uint64_t sum = 0;
  };
  struct NewPiece {
    uint32_t layer = 0;
    ArrivedTokens::Piece tokens;
  };

  LatentStore(StoreOptions options, std::unique_ptr<PageArena> arena);

  Chunk* Find(const ChunkId& id);
  const Chunk* Find(const ChunkId& id) const;

  // latent_store_publish.cc
  absl::Status CheckRange(const ChunkId& id, const RecordRange& range) const;
  absl::Status CheckPlace(const ChunkId& id, const Chunk* chunk, const RecordRange& range) const;
  // Compares what is there, checks what is new, and fills new_pieces_.
  absl::Status CheckRecords(const ChunkId& id, const Chunk* chunk, const RecordRange& range,
                            std::span<const std::byte> records);
  absl::Status CheckNewPiece(const ChunkId& id, uint32_t layer, const ArrivedTokens::Piece& piece,
                             const std::byte* records) const;
  absl::Status CheckSamePiece(const Chunk& chunk, uint32_t layer, const ArrivedTokens::Piece& piece,
                              const std::byte* records);
  uint32_t MissingPages(const Chunk* chunk, const RecordRange& range) const;
  // RESOURCE_EXHAUSTED unless the session may have so many more pages in open chunks.
  absl::Status CheckShare(const SessionToken& session, uint32_t pages) const;
  Chunk& AddChunk(const ChunkId& id);
  void AddPages(Chunk& chunk, const RecordRange& range);
  // Writes new_pieces_, then counts them as arrived.
  absl::Status CopyIn(Chunk& chunk, const RecordRange& range, std::span<const std::byte> records);

  // latent_store_evict.cc
  // Evicts until `pages` pages and, if asked, one more chunk fit; RESOURCE_EXHAUSTED with nothing
  // evicted otherwise.
  absl::Status MakeRoom(uint32_t pages, bool new_chunk, absl::Time now);
  // Recounts what a chunk's pins, leases and state make of it. To be called after each change of
  // those.
  void Reclassify(Chunk& chunk);
  void Touch(Chunk& chunk, absl::Time now);
  // Takes a chunk out of the index and frees its pages, now or at the last Unpin.
  void Drop(Chunk& chunk);
  void FreePages(Chunk& chunk);

  // latent_store_slot.cc
  template <typename Do>
  void ForOpenOfSlot(Slot slot, Do&& what);

  // latent_store_scrub.cc
  // One of scrub_soon_, or else the next sealed chunk after scrub_pass_at_; null when there is none,
  // or when many chunks that are not sealed come first (scrub_pass_at_ stands behind them then, and
  // `end` stays false).
  Chunk* NextToScrub(bool& end);
  absl::StatusOr<uint64_t> ScrubRun(const Chunk& chunk, uint64_t most_bytes);
  void Quarantine(Chunk& chunk);
  // DATA_LOSS for what is quarantined.
  absl::Status CheckIntact(const ChunkId& id) const;
  // ALREADY_EXISTS for what is quarantined and was sealed otherwise.
  absl::Status CheckSealedBefore(const ChunkId& id, uint32_t tokens, uint64_t checksum) const;

  // latent_store_lease.cc
  // Makes what was the node's the session's, which goes on publishing it.
  void TakeOver(Chunk& chunk, const SessionToken& session);
  // Makes the session one of an open chunk's publishers, answerable for `pages` more of its pages.
  void Charge(Chunk& chunk, const SessionToken& session, uint32_t pages);
  void ForgetPublishers(Chunk& chunk);
  void ForgetLease(Chunk& chunk, size_t index);
  void EraseIfEmpty(const SessionToken& session);

  // Appends to runs_ where tokens [first, end) of a layer lie, page by page, for a host's buffer
  // that has them from `host_offset` on.
  void AddRuns(const Chunk& chunk, uint32_t layer, uint32_t first, uint32_t end,
               uint64_t host_offset);

  const StoreOptions options_;
  const uint64_t record_bytes_;
  std::unique_ptr<PageArena> arena_;
  const uint64_t high_pages_;
  const uint64_t low_pages_;

  absl::flat_hash_map<ChunkId, std::unique_ptr<Chunk>> chunks_;
  absl::flat_hash_map<Chunk*, std::unique_ptr<Chunk>> dropped_;
  absl::btree_set<ChunkId> ordered_;  // the same ids, for listings
  std::list<Chunk*> evictable_;       // least recently used first
  std::list<Chunk*> others_;          // so that moving between the two allocates nothing
  uint64_t evictable_pages_ = 0;
  absl::flat_hash_map<SessionToken, Holdings> sessions_;  // only those that hold something
  absl::btree_set<std::tuple<absl::Time, ChunkId, SessionToken>> leases_by_expiry_;

  uint64_t open_ = 0;
  uint64_t held_ = 0;
  uint64_t evicted_ = 0;
  uint64_t discarded_ = 0;
  uint64_t published_bytes_ = 0;
  uint64_t released_ = 0;
  uint64_t corrupt_ = 0;
  uint64_t scrubbed_bytes_ = 0;
  uint64_t next_serial_ = 1;

  absl::btree_map<ChunkId, Quarantined> quarantined_;
  ScrubPlace scrub_;
  ChunkId scrub_pass_at_{};  // the last chunk whose turn it was in this pass
  std::deque<ChunkId> scrub_soon_;
  std::vector<std::byte> scrub_buffer_;  // where the records are a device's

  // Scratch of Publish and Fetch, kept so that they allocate nothing in the steady state.
  std::vector<ArrivedTokens::Piece> pieces_;
  std::vector<NewPiece> new_pieces_;
  std::vector<RecordRun> runs_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_LATENT_STORE_H_
