// Strong types for the identities that routing speaks of. Values; any thread.
#ifndef LATENTD_ROUTING_IDS_H_
#define LATENTD_ROUTING_IDS_H_

#include <compare>
#include <cstdint>
#include <string>
#include <utility>

namespace latentd {

inline constexpr uint32_t kSlotCount = 65536;

// One of kSlotCount shards of the id space.
enum class Slot : uint16_t {};

// 128 bits; the top 16 are the slot.
struct ChunkId {
  uint64_t hi = 0;
  uint64_t lo = 0;

  constexpr Slot slot() const { return static_cast<Slot>(hi >> 48); }
  friend constexpr auto operator<=>(const ChunkId&, const ChunkId&) = default;

  template <typename H>
  friend H AbslHashValue(H h, const ChunkId& id) {
    return H::combine(std::move(h), id.hi, id.lo);
  }
};

// Version of the routing table; monotonic, given by the membership authority. 0 means "none seen".
enum class Epoch : uint64_t {};

// Identity of one life of a holder's memory: fresh at every start that does not keep the cache. 0
// means "unknown".
enum class Generation : uint64_t {};

// Identity of the bytes that a store holds; see layout.h.
enum class LayoutHash : uint64_t {};

using NodeId = std::string;

template <typename Enum>
constexpr auto ToInt(Enum value) {
  return static_cast<std::underlying_type_t<Enum>>(value);
}

// 32 hexadecimal digits, as in logs and tools.
std::string ToString(const ChunkId& id);

}  // namespace latentd

#endif  // LATENTD_ROUTING_IDS_H_
