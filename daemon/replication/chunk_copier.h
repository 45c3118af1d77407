// `ChunkCopier` brings chunks from other nodes here: range by range, some at a time, at a bounded
// rate; a source that fails gives way to the next. A sealed chunk counts only once the store has
// found it to have its checksum; what turns out to be something else is dropped, and fetched anew
// from the next source.
//
// A copy's life:
//     queued -- its turn --> ranges fetched and stored -- the last is there --> sealed --> OK
//     a range fails at the source    --> the same range at the next source; each failed twice
//                                        with nothing copied in between: that failure, but of one
//                                        that may yet have it rather than of one that has it damaged
//     a range fails here             --> that failure; other bytes are here: they are dropped
//     the seal says DATA_LOSS        --> dropped, all of it from the next source; no other: DATA_LOSS.
//                                        Those it came from are told that their bytes are doubted
// What is dropped is open, unless the copy is for a slot that this node joins: there it may be sealed
// as well, for nobody has been answered from it.
//
// Pure but for what it is given. Scheduler's thread only; callbacks run out of later events.
#ifndef LATENTD_DAEMON_REPLICATION_CHUNK_COPIER_H_
#define LATENTD_DAEMON_REPLICATION_CHUNK_COPIER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "client/slices.h"
#include "daemon/etcd/scheduler.h"
#include "daemon/replication/copy_source.h"
#include "daemon/replication/token_bucket.h"
#include "routing/layout.h"

namespace latentd {

struct CopyOptions {
  uint32_t parallel = 4;              // ranges under way
  uint64_t bytes_per_second = 0;      // 0: as fast as it goes
  uint64_t range_bytes = 4ull << 20;  // of one range: a lane takes one in a turn
};

struct CopyCounts {
  uint64_t chunks = 0;
  uint64_t bytes = 0;
  uint64_t failures = 0;    // of ranges and seals, tried again or not
  uint64_t mismatches = 0;  // copies that did not have their checksum
};

struct ChunkCopy {
  ChunkState chunk;             // as it is there
  Epoch placed{};               // of its slot
  uint32_t tokens_here = 0;     // the first ones, which need not be fetched
  bool joining = false;         // the slot: nobody is answered from what is here
  std::vector<NodeId> sources;  // in the order to try; at least one
};

class ChunkCopier {
 public:
  using Done = std::function<void(absl::Status)>;

  // All must outlive this.
  ChunkCopier(const CopyOptions& options, const Layout& layout, Scheduler* scheduler,
              PeerChunks* peers, LocalChunks* local);
  ~ChunkCopier();
  ChunkCopier(const ChunkCopier&) = delete;
  ChunkCopier& operator=(const ChunkCopier&) = delete;

  // Errors: of a source, or of the store; DATA_LOSS and NOT_FOUND only if no source has the chunk
  // whole. Returns the copy's id, never 0.
  uint64_t Start(ChunkCopy copy, Done done);
  // `done` will not run. Ranges under way are still stored.
  void Cancel(uint64_t id);

  size_t copies() const { return jobs_.size(); }
  const CopyCounts& counts() const { return counts_; }

 private:
  struct Job {
    ChunkCopy copy;
    Done done;
    std::vector<Slice> slices;  // all of it
    std::deque<size_t> to_do;   // indices of slices
    size_t source = 0;          // index of copy.sources
    std::set<NodeId> gave;      // records since the copy began anew
    uint32_t under_way = 0;
    uint32_t failures_in_row = 0;  // of ranges
    uint32_t failed_seals = 0;
    bool sealing = false;
    bool other_here = false;  // failed because the store has something else under this id
    absl::Status failed;
    absl::Status in_doubt;  // first failure of a source that may yet have the chunk
  };

  void Cut(Job& job);
  void Pump();
  void FetchOne(uint64_t id, Job& job);
  void Fetched(uint64_t id, size_t slice, size_t source, absl::StatusOr<CopiedRecords> records);
  void Stored(uint64_t id, size_t slice, const absl::Status& status);
  // The first failure counts; what is under way is waited for.
  static void Fail(Job& job, const absl::Status& status);
  // Moves to the next source unless that has happened. False: they have all failed, more than once.
  static bool NextSource(Job& job, size_t failed_source);
  void Settle(uint64_t id, Job& job);
  void Sealed(uint64_t id, absl::Status status);
  void DropThen(const ChunkCopy& copy, std::function<void()> then);
  void Restart(uint64_t id);
  void End(uint64_t id, absl::Status status);

  const CopyOptions options_;
  const Layout layout_;
  Scheduler* const scheduler_;
  PeerChunks* const peers_;
  LocalChunks* const local_;

  absl::btree_map<uint64_t, Job> jobs_;  // older ones first
  std::deque<uint64_t> queue_;           // of jobs that have ranges to do
  uint64_t next_id_ = 1;
  uint32_t under_way_ = 0;
  TokenBucket bucket_;
  TimerId timer_{};
  CopyCounts counts_;
  // What is still to be answered when this goes finds it expired.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_CHUNK_COPIER_H_
