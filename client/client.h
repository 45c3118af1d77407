// `Client` is a frontend's view of a cluster: it finds who holds a chunk, sends queries there, and
// merges what comes back.
//
// One thread at a time calls it; every callback runs inside that thread's Progress (or a blocking
// call, or the destructor), never inside the call that started it. A control thread of the client's
// own keeps sessions and the routing table; it never touches what the caller sees. There is no
// global state: a process may have many clients.
//
// Memory is the caller's: what a call reads or writes stays valid until its callback. Every call
// ends: with its answer, with a typed error, or with DEADLINE_EXCEEDED once its time is over,
// whatever dies meanwhile. An answer that comes later is dropped. Calls are tried again only as
// retry.h says.
//
// Queries, fetches and Stat go to any in-sync holder of a chunk, the less busy one by what holders
// report; what changes a chunk goes to its primary, which passes it on.
//
// Errors to expect: NOT_FOUND (no such chunk; or its holder restarted), OUT_OF_RANGE (records that
// have not arrived), ALREADY_EXISTS (published before with other bytes), RESOURCE_EXHAUSTED (with
// RetryAfter, transport/errors.h), UNAVAILABLE (no holder answers), DEADLINE_EXCEEDED,
// INVALID_ARGUMENT.
//
// Driving it from an event loop: poll event_fd() for reading after Arm() returned true; when it is
// readable, or Arm() returned false, call Progress.
#ifndef LATENTD_CLIENT_CLIENT_H_
#define LATENTD_CLIENT_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/node_health.h"
#include "client/options.h"
#include "client/query.h"
#include "client/session_limits.h"
#include "routing/ids.h"
#include "routing/layout.h"
#include "routing/routing_table.h"

namespace latentd {

// Names a call in flight; never reused by one client.
enum class CallId : uint64_t {};

class Client {
 public:
  using Done = std::function<void(absl::Status)>;
  using AttendDone = std::function<void(absl::StatusOr<AttendAnswer>)>;
  using StatDone = std::function<void(absl::StatusOr<std::vector<ChunkStat>>)>;
  using CacheFetchDone = std::function<void(absl::StatusOr<CacheFetchReport>)>;
  using EchoDone = std::function<void(absl::StatusOr<HolderTiming>)>;

  // Connects to the first endpoint that answers and learns the layout and the table from it. Errors
  // name every endpoint and what was wrong with it; INVALID_ARGUMENT for one that is no HOST:PORT.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(ClientOptions options);
  // Calls in flight end with CANCELLED; sessions are closed.
  virtual ~Client() = default;

  // --- What it knows
  virtual const Layout& layout() const = 0;
  virtual LayoutHash layout_hash() const = 0;
  // Of the session on the first endpoint that answered; other daemons may have others. Calls need
  // not keep to them: what is larger is cut up, what is too much waits.
  virtual const SessionLimits& limits() const = 0;
  // A snapshot; newer ones are taken up by Progress.
  virtual std::shared_ptr<const RoutingTable> table() const = 0;
  // "tcp/lo": how this client reaches a holder that it has spoken with.
  virtual std::string TransportsTo(const Holder& holder) const = 0;
  virtual ClientCounters counters() const = 0;
  // Of the nodes that it has asked, by id. Not cheap: for reports and logs.
  virtual std::vector<NodeHealth> health() const = 0;

  // --- Calls that finish before they return. A timeout of zero is the options' default.
  absl::Status Publish(const ChunkRange& range, std::span<const std::byte> records,
                       absl::Duration timeout = {});
  // Ends a chunk: it has `tokens` tokens in every layer, and `checksum` as
  // transport/record_checksum.h has it.
  absl::Status Seal(const ChunkId& chunk, uint32_t tokens, uint64_t checksum,
                    absl::Duration timeout = {});
  // Of records in the memory of the client's device (ClientOptions::device), copied once what
  // `stream` has been given is done. FAILED_PRECONDITION without a device.
  absl::Status PublishFromDevice(const ChunkRange& range, std::span<const std::byte> records,
                                 CudaStream stream, absl::Duration timeout = {});
  absl::StatusOr<AttendAnswer> Attend(const AttendQuery& query, absl::Duration timeout = {});
  absl::Status Fetch(const ChunkRange& range, std::span<std::byte> records,
                     absl::Duration timeout = {});
  // Brings what is missing of `parts` into the client's own pages (ClientOptions::cache_bytes), from
  // the chunks' holders in parallel, turned to another position where a part says so. Queries with
  // use_cache attend it there until it is evicted: the least recently used chunks go when there is
  // no room, never those that a call uses. Each run of tokens of a page is a request. What arrived
  // before an error stays. INVALID_ARGUMENT: no part, or a run without tokens; FAILED_PRECONDITION: no
  // cache, a chunk that is not sealed, a shift and a layout without rope; OUT_OF_RANGE: tokens or
  // layers that are not there, a shift beyond the model's positions; RESOURCE_EXHAUSTED: no room,
  // naming the bytes needed and free.
  absl::StatusOr<CacheFetchReport> FetchToCache(std::span<const CachePart> parts,
                                                absl::Duration timeout = {});
  // Forgets chunks, at every shift, that no call uses. Without it a chunk is kept though its holders
  // have dropped it: the same id never means other bytes, unless it was drawn rather than derived
  // from content and is published anew.
  virtual void DropFromCache(std::span<const ChunkId> chunks) = 0;
  // Keeps chunks from being evicted for the duration of the lease, or until Release or the
  // session's end. Both go to every in-sync holder. OK: of each chunk at least one holder did it,
  // and what the others said, if anything, was UNAVAILABLE or NOT_FOUND. Otherwise UNAVAILABLE if a
  // holder of the chunk could not be asked, else NOT_FOUND, or the first other error. Each Pin counts from anew: a chunk is kept for longer by pinning it again before
  // its lease is over. INVALID_ARGUMENT naming the longest lease (SessionLimits::max_lease_ms, 10
  // minutes) for more than that; FAILED_PRECONDITION for a chunk that another session still
  // publishes, since it goes when that session ends.
  absl::Status Pin(std::span<const ChunkId> chunks, absl::Duration lease,
                   absl::Duration timeout = {});
  absl::Status Release(std::span<const ChunkId> chunks, absl::Duration timeout = {});
  // What one in-sync holder of each chunk has.
  absl::StatusOr<std::vector<ChunkStat>> Stat(std::span<const ChunkId> chunks,
                                              absl::Duration timeout = {});
  // Sends `payload` to a holder and has `reply_bytes` sent back: measures the wire.
  absl::StatusOr<HolderTiming> Echo(const Holder& holder, std::span<const std::byte> payload,
                                    uint64_t reply_bytes, absl::Duration timeout = {});

  // --- The same calls, answered by callback
  virtual CallId StartPublish(const ChunkRange& range, std::span<const std::byte> records,
                              absl::Duration timeout, Done done) = 0;
  virtual CallId StartPublishFromDevice(const ChunkRange& range, std::span<const std::byte> records,
                                        CudaStream stream, absl::Duration timeout, Done done) = 0;
  virtual CallId StartSeal(const ChunkId& chunk, uint32_t tokens, uint64_t checksum,
                           absl::Duration timeout, Done done) = 0;
  virtual CallId StartAttend(const AttendQuery& query, absl::Duration timeout, AttendDone done) = 0;
  virtual CallId StartFetch(const ChunkRange& range, std::span<std::byte> records,
                            absl::Duration timeout, Done done) = 0;
  virtual CallId StartFetchToCache(std::span<const CachePart> parts, absl::Duration timeout,
                                   CacheFetchDone done) = 0;
  virtual CallId StartPin(std::span<const ChunkId> chunks, absl::Duration lease,
                          absl::Duration timeout, Done done) = 0;
  virtual CallId StartRelease(std::span<const ChunkId> chunks, absl::Duration timeout,
                              Done done) = 0;
  virtual CallId StartStat(std::span<const ChunkId> chunks, absl::Duration timeout,
                           StatDone done) = 0;
  virtual CallId StartEcho(const Holder& holder, std::span<const std::byte> payload,
                           uint64_t reply_bytes, absl::Duration timeout, EchoDone done) = 0;
  // The call ends with CANCELLED, unless it has ended.
  virtual void Cancel(CallId call) = 0;

  // --- Turning
  // Moves everything on and runs callbacks; never blocks. Returns whether anything happened.
  virtual bool Progress() = 0;
  // Readable when Progress has something to do, once Arm returned true.
  virtual int event_fd() const = 0;
  virtual bool Arm() = 0;
  // Progresses until `stop` returns true, sleeping when nothing happens. `stop` is asked after
  // every turn.
  virtual void RunUntil(const std::function<bool()>& stop) = 0;
  virtual size_t in_flight() const = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_CLIENT_H_
