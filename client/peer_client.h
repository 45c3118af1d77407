// `PeerClient` is a daemon's way to other daemons: writes that it passes on as a slot's primary,
// lists and fetches of what it copies. Whoever calls says which node is meant; what the table makes
// of a failure is the caller's business. So nothing is tried again here, except that a session
// which the peer no longer knows is opened anew, once.
//
// Sessions, HELLO, liveness, windows and deadlines are those of client/'s other users (data_path.h,
// session_keeper.h). Its sessions say that they are a node's: they have no bounds of a tenant.
//
// One thread at a time, which turns it (Progress) at least once a second while calls are in flight;
// callbacks run inside its Progress or the destructor. Memory that a call reads must stay valid
// until its callback. Every call ends by its deadline.
#ifndef LATENTD_CLIENT_PEER_CLIENT_H_
#define LATENTD_CLIENT_PEER_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/exchange.h"
#include "client/query.h"
#include "client/tls_files.h"
#include "routing/layout.h"
#include "routing/routing_table.h"
#include "transport/wire.h"

namespace latentd {

struct PeerClientOptions {
  NodeId self;
  TlsFiles tls;
  std::vector<std::string> transports;  // of UCX; empty: whatever it finds
  Layout layout;
  absl::Duration ping_after = absl::Milliseconds(500);
  absl::Duration dead_after = absl::Seconds(2);
};

// What became of a write. `epoch`: of the peer's table, if it answered.
struct PeerAnswer {
  absl::Status status;
  Epoch epoch{};
};

// A page of one slot's chunks, in the order of ids.
struct PeerListing {
  std::vector<wire::StatEntry> chunks;
  std::vector<std::vector<uint32_t>> layer_tokens;  // of each chunk: [layers] if it is open
  bool more = false;                                // there are others after the last
};

// A slot's primary as its peer is to know it.
struct WriteEpochs {
  Epoch epoch{};   // of the table that the write goes by
  Epoch placed{};  // of the slot in it
};

class PeerClient {
 public:
  using WriteDone = std::function<void(PeerAnswer)>;
  using ListDone = std::function<void(absl::StatusOr<PeerListing>)>;
  // The records are to be let go of on the client's thread, before the client.
  using FetchDone = std::function<void(absl::StatusOr<ReplyPayload>)>;
  // Runs closures, posted by any thread, on the client's thread.
  using Post = std::function<void(std::function<void()>)>;

  // Connects to nobody yet. Errors are UCX's, or name the TLS file.
  static absl::StatusOr<std::unique_ptr<PeerClient>> Create(PeerClientOptions options, Post post);
  // Calls in flight end with CANCELLED; sessions are closed.
  virtual ~PeerClient() = default;

  // Where the nodes are, and what memory they have: the newest table.
  virtual void SetTable(std::shared_ptr<const RoutingTable> table) = 0;

  // --- Calls. Deadlines are of SteadyNanos (clock.h). Besides the peer's own errors: UNAVAILABLE
  // (not in the table, does not answer, has restarted), DEADLINE_EXCEEDED, CANCELLED; they name the
  // node.
  virtual void Publish(const NodeId& node, const ChunkRange& range,
                       std::span<const std::byte> records, WriteEpochs epochs, uint64_t deadline_ns,
                       WriteDone done) = 0;
  virtual void Seal(const NodeId& node, const ChunkId& chunk, uint32_t tokens, uint64_t checksum,
                    WriteEpochs epochs, uint64_t deadline_ns, WriteDone done) = 0;
  virtual void Drop(const NodeId& node, const ChunkId& chunk, WriteEpochs epochs,
                    uint64_t deadline_ns, WriteDone done) = 0;
  // Chunks of the slot with ids after `after`, from the start for kNoChunk.
  virtual void List(const NodeId& node, Slot slot, Epoch placed, const ChunkId& after,
                    uint64_t deadline_ns, ListDone done) = 0;
  // What was fetched of the chunk is not what it was sealed with: the node reads it again soon.
  virtual void Doubt(const NodeId& node, const ChunkId& chunk, uint64_t deadline_ns,
                     WriteDone done) = 0;
  // Calls in flight end by then too; those that begin later do not know of it.
  virtual void EndBy(uint64_t deadline_ns) = 0;
  // DATA_LOSS: the records are not those that were sent.
  virtual void Fetch(const NodeId& node, const ChunkRange& range, uint64_t deadline_ns,
                     FetchDone done) = 0;

  // --- Turning
  virtual bool Progress() = 0;  // whether anything happened
  virtual int event_fd() const = 0;
  virtual bool Arm() = 0;  // false: Progress first
  // When Progress must run though nothing arrives (SteadyNanos); kNever if at no time.
  virtual uint64_t next_timer_ns() const = 0;
  virtual size_t in_flight() const = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_PEER_CLIENT_H_
