// What copying chunks between nodes needs of the rest: the other nodes' chunks and this node's own.
// The daemon gives it lanes and connections, a simulation gives it something simpler.
//
// Thread rule: everything on the scheduler's thread; `done` runs once, there too, and not before
// the call has returned.
#ifndef LATENTD_DAEMON_REPLICATION_COPY_SOURCE_H_
#define LATENTD_DAEMON_REPLICATION_COPY_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/query.h"
#include "daemon/membership/membership.h"
#include "routing/ids.h"

namespace latentd {

// A chunk as one node has it.
struct ChunkState {
  ChunkId id;
  bool sealed = false;
  uint32_t tokens = 0;                   // sealed: its count; open: arrived in every layer
  uint64_t checksum = 0;                 // sealed
  std::vector<uint32_t> layer_tokens{};  // open: arrived in each layer; empty: `tokens` in each
  bool lost = false;                     // sealed, but its records are damaged there

  friend bool operator==(const ChunkState&, const ChunkState&) = default;
};

// Records of a range, and what keeps them in memory.
struct CopiedRecords {
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
};

// The other nodes.
class PeerChunks {
 public:
  virtual ~PeerChunks() = default;

  using ListDone = std::function<void(absl::StatusOr<std::vector<ChunkState>>)>;
  using FetchDone = std::function<void(absl::StatusOr<CopiedRecords>)>;

  // All chunks of the slots that `node` holds as they are placed. WRONG_EPOCH if one is placed
  // otherwise by its table.
  virtual void List(const NodeId& node, std::vector<SlotClaim> slots, ListDone done) = 0;
  virtual void Fetch(const NodeId& node, const ChunkRange& range, FetchDone done) = 0;
  // What `node` gave of a chunk is not what it was sealed with. Nobody waits for what it says to that.
  virtual void Doubt(const NodeId& node, const ChunkId& chunk) = 0;
};

// This node's store, whatever lane a chunk belongs to. Writes are refused with WRONG_EPOCH unless
// this node holds or joins the chunk's slot as it is `placed`.
class LocalChunks {
 public:
  virtual ~LocalChunks() = default;

  using ListDone = std::function<void(std::vector<ChunkState>)>;
  using Done = std::function<void(absl::Status)>;

  // None is `lost` here: what is damaged is not listed, or open, once it is being repaired.
  virtual void List(std::vector<Slot> slots, ListDone done) = 0;
  // Errors are LatentStore's.
  virtual void Publish(const ChunkRange& range, Epoch placed, CopiedRecords records, Done done) = 0;
  virtual void Seal(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                    Done done) = 0;
  // Of an open chunk; OK if there is none, or a sealed one, which stays.
  virtual void Drop(const ChunkId& chunk, Epoch placed, Done done) = 0;
  // Of whatever is here under the id. FAILED_PRECONDITION unless this node joins the slot.
  virtual void Discard(const ChunkId& chunk, Epoch placed, Done done) = 0;
  // From now on the chunk is DATA_LOSS here, until it is sealed so. OK if it is.
  virtual void MarkLost(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                        Done done) = 0;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_COPY_SOURCE_H_
