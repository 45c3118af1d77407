// A `Lane` is one thread that owns a device's share of the cache: a UCX worker, a latent store and
// an engine. It shares nothing mutable with other lanes and takes no lock on the request path. It
// loops: progress UCX, admit requests, form a batch, launch, collect completions, send replies; it
// polls while work is in flight and sleeps when idle.
//
// Thread rule: every method here may be called from any thread; they post to the lane's mailbox or
// read snapshots. Callbacks given to methods run on the lane thread and must be short.
#ifndef LATENTD_DAEMON_LANE_LANE_H_
#define LATENTD_DAEMON_LANE_LANE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/lane/batch_trial.h"
#include "daemon/lane/lane_options.h"
#include "daemon/lane/lane_stats.h"
#include "daemon/session/session.h"
#include "daemon/store/chunk_info.h"
#include "daemon/store/record_range.h"
#include "routing/ids.h"
#include "routing/routing_table.h"
#include "transport/worker.h"

namespace latentd {

// Records of a chunk that this node has fetched from another: to copy a slot that it joins, or to
// repair a chunk.
struct LocalRecords {
  ChunkId chunk;
  RecordRange range;
  std::span<const std::byte> records;  // [layers][tokens][record], host memory, valid until `done`
  Epoch placed{};                      // of the slot, in the table that the copy is made for
};

class Lane {
 public:
  // Allocates the arena, makes the worker and the backend; starts no thread yet. Errors name the
  // resource.
  static absl::StatusOr<std::unique_ptr<Lane>> Create(LaneOptions options,
                                                      std::shared_ptr<Context> context);
  // Stops the thread if it runs.
  virtual ~Lane() = default;

  // Called, on the lane's thread, when a session ends here because its connection failed. The lane
  // has forgotten the session by then. Set before Start. (A client that is only silent loses its
  // connection, not its session.)
  virtual void SetSessionLostCallback(std::function<void(SessionToken, absl::Status)> callback) {
    (void)callback;
  }

  // Called once, on the lane's thread, when the lane's device has failed. From then on the lane
  // answers whatever concerns chunks with UNAVAILABLE. Set before Start.
  virtual void SetDeviceLostCallback(std::function<void(absl::Status)> callback) { (void)callback; }

  virtual void Start() = 0;
  // Waits for requests in flight until `deadline` (of absl::Now()'s clock), then fails what is
  // left, closes endpoints and joins the thread. Returns DEADLINE_EXCEEDED if something was cut off
  // (and says how many).
  virtual absl::Status Stop(absl::Time deadline) = 0;

  virtual const std::string& worker_address() const = 0;
  virtual const LaneOptions& options() const = 0;
  // "cpu (AVX3_ZEN4, 2 threads)"
  virtual std::string DescribeBackend() const = 0;
  // What UCX chose for the connection made last, "tcp/lo"; empty before the first.
  virtual std::string Transports() const { return ""; }

  // Makes a token valid. `done` runs once the lane knows it: only then may the token be given to
  // the client. (A lane that has stopped runs it at once, and answers nobody.)
  virtual void AddSession(SessionGrant grant, std::function<void()> done) = 0;
  // Ends a session: its requests in flight are dropped, its leases end, open chunks only it
  // published are freed.
  virtual void RemoveSession(SessionToken token, std::string reason) = 0;
  // Requests are checked against this table from now on.
  virtual void SetTable(std::shared_ptr<const RoutingTable> table) = 0;
  // false: clients' ATTEND and PUBLISH are answered UNAVAILABLE with a retry hint; FETCH, SEAL, STAT,
  // RELEASE go on, and so does what other nodes pass on.
  virtual void SetAdmitting(bool admitting) = 0;
  // Lists chunks whose id starts with `hex_prefix`, at most `limit`.
  virtual void ListChunks(std::string hex_prefix, uint32_t limit,
                          std::function<void(ChunkListing)> done) = 0;

  // What copies slots and repairs chunks asks of the lane. All of it is done in the order of the
  // calls, a bounded number of bytes in each turn. `done` runs once, on the lane's thread; at once,
  // with UNAVAILABLE, where the lane has stopped.
  using Done = std::function<void(absl::Status)>;
  // As PUBLISH from the slot's primary: the chunk belongs to the node. WRONG_EPOCH unless this lane
  // holds or joins the slot as `placed` says; else as LatentStore::Publish.
  virtual void PublishLocal(LocalRecords records, Done done) {
    (void)records;
    done(absl::UnimplementedError("PublishLocal"));
  }
  // As LatentStore::Seal; WRONG_EPOCH as above.
  virtual void SealLocal(ChunkId chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                         Done done) {
    (void)chunk, (void)tokens, (void)checksum, (void)placed;
    done(absl::UnimplementedError("SealLocal"));
  }
  // Frees an open chunk that the slot's primary does not have any more. OK where there is none, or a
  // sealed one, which stays.
  virtual void DropLocal(ChunkId chunk, Epoch placed, Done done) {
    (void)chunk, (void)placed;
    done(absl::UnimplementedError("DropLocal"));
  }
  // Frees whatever is here under the id, sealed too: the slot's primary has something else under it.
  // FAILED_PRECONDITION unless this lane joins the slot, and so answers nobody; WRONG_EPOCH as above.
  virtual void DiscardLocal(ChunkId chunk, Epoch placed, Done done) {
    (void)chunk, (void)placed;
    done(absl::UnimplementedError("DiscardLocal"));
  }
  // As LatentStore::MarkLost; WRONG_EPOCH as above.
  virtual void MarkLostLocal(ChunkId chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                             Done done) {
    (void)chunk, (void)tokens, (void)checksum, (void)placed;
    done(absl::UnimplementedError("MarkLostLocal"));
  }
  // Chunks of the slot (with their layer_tokens) after `after` (kNoChunk: from its start), at most `limit`, whoever holds it.
  // Quarantined ones are among them only while they are being repaired.
  virtual void ListSlot(Slot slot, ChunkId after, uint32_t limit,
                        std::function<void(ChunkListing)> done) {
    (void)slot, (void)after, (void)limit;
    done({});
  }
  // One for each id; none where the chunk is not here.
  virtual void StatLocal(std::vector<ChunkId> chunks,
                         std::function<void(std::vector<std::optional<ChunkInfo>>)> done) {
    done(std::vector<std::optional<ChunkInfo>>(chunks.size()));
  }

  // Times batches of its own while it has nothing else to do, one trial at a time. What comes for
  // others ends it: the times so far are `interrupted`. ABORTED: another trial is under way;
  // RESOURCE_EXHAUSTED: the cache has no room to spare for so many tokens; UNAVAILABLE: the device
  // has failed, or the lane stopped. Pages stay taken for the next trial until EndTrials, or until
  // something comes for others.
  using TrialDone = std::function<void(absl::StatusOr<BatchTimes>)>;
  virtual void TimeBatches(const BatchTrial& trial, TrialDone done) {
    (void)trial;
    done(absl::UnimplementedError("TimeBatches"));
  }
  // Gives back what trials took.
  virtual void EndTrials(std::function<void()> done) { done(); }

  virtual const LaneStats& stats() const = 0;
  // Steady-clock time of the lane's last turn: the watchdog's evidence that it is alive. An idle
  // lane still turns at least once a second. InfiniteFuture once it has stopped: it turns no more.
  virtual absl::Time last_turn() const = 0;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_LANE_H_
