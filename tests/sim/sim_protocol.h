// What nodes and clients of the simulation say to each other: the data plane's requests without
// their bytes. A chunk is of kChunkTokens tokens; a bit of `mask` is one of them.
#ifndef LATENTD_TESTS_SIM_SIM_PROTOCOL_H_
#define LATENTD_TESTS_SIM_SIM_PROTOCOL_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "daemon/membership/membership.h"
#include "daemon/replication/copy_source.h"
#include "routing/ids.h"

namespace latentd::sim {

inline constexpr uint32_t kChunkTokens = 8;
inline constexpr uint8_t kFullMask = 0xFF;
// Slots are placed in blocks, so that tables are cheap; chunks are in the first slot of each.
inline constexpr uint32_t kBlocks = 16;
inline constexpr uint32_t kBlockSlots = kSlotCount / kBlocks;

// The bytes of a chunk, if they are right.
inline uint64_t ContentOf(const ChunkId& chunk) {
  return (chunk.hi ^ chunk.lo) * 0x9E3779B97F4A7C15u + 1;
}

struct Request {
  enum class Kind : uint8_t {
    kOpen,     // a session
    kTable,    // the table
    kPublish,  // of clients, as are the next two
    kSeal,
    kAttend,
    kForwardPublish,  // of a primary, as is the next
    kForwardSeal,
    kList,  // of nodes that join, as is the next
    kFetch,
  };
  Kind kind{};
  uint64_t session = 0;  // which life of the node is meant; of clients
  Epoch epoch{};
  Epoch placed{};
  Generation generation{};  // of the slot
  ChunkId chunk;
  uint8_t mask = 0;
  uint64_t content = 0;
  std::vector<SlotClaim> slots;
};

struct Reply {
  absl::Status status;
  Epoch epoch{};
  uint64_t session = 0;
  uint64_t content = 0;
  TablePtr table;
  std::vector<ChunkState> chunks;
};

using ReplyDone = std::function<void(const Reply&)>;

}  // namespace latentd::sim

#endif  // LATENTD_TESTS_SIM_SIM_PROTOCOL_H_
