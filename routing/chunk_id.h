// Making and reading chunk ids. An id's top 16 bits are its slot, and the routing table says who
// holds a slot: an id is all that a frontend needs to find a chunk.
//
// Pure functions; any thread.
#ifndef LATENTD_ROUTING_CHUNK_ID_H_
#define LATENTD_ROUTING_CHUNK_ID_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "routing/ids.h"

namespace latentd {

// The parent of a prefix's first chunk. Never the id of a chunk.
inline constexpr ChunkId kNoChunk{};

// The id of the chunk that holds `tokens` after the prefix that ends in `parent`: frontends that
// share a prefix, and cut it in the same places, meet at the same id. A frontend that must not
// share starts its prefixes at a parent of its own instead of kNoChunk.
ChunkId DeriveChunkId(const ChunkId& parent, std::span<const uint32_t> tokens, LayoutHash layout);

// 128 random bits, given by the caller: this library draws none.
struct Entropy128 {
  uint64_t hi = 0;
  uint64_t lo = 0;
};

// An id inside a chosen slot, so that the chunk lives on the slot's holders. The low 112 bits of
// the entropy are kept.
ChunkId PlaceChunkId(Slot slot, Entropy128 entropy);

// Reads what ToString(ChunkId) writes: exactly 32 hexadecimal digits, either case.
absl::StatusOr<ChunkId> ParseChunkId(std::string_view text);

}  // namespace latentd

#endif  // LATENTD_ROUTING_CHUNK_ID_H_
