// Chunks by slot: what becomes of them when routing tables move slots.
#include <algorithm>
#include <utility>

#include "daemon/store/chunk.h"
#include "daemon/store/latent_store.h"

namespace latentd {
namespace {

ChunkId FirstOf(Slot slot) { return {.hi = uint64_t{ToInt(slot)} << 48, .lo = 0}; }

std::vector<uint32_t> LayerTokens(const Chunk& chunk) {
  std::vector<uint32_t> tokens;
  tokens.reserve(chunk.layers.size());
  for (const ArrivedTokens& layer : chunk.layers) tokens.push_back(layer.prefix());
  return tokens;
}

}  // namespace

ChunkListing LatentStore::ListSlot(Slot slot, const ChunkId& after, uint32_t limit,
                                   bool quarantined, absl::Time now) const {
  ChunkListing listing;
  // An id of nothing but its slot is made by nobody, but nothing forbids it.
  const bool from_start = after < FirstOf(slot);
  auto here = from_start ? ordered_.lower_bound(FirstOf(slot)) : ordered_.upper_bound(after);
  auto lost = !quarantined ? quarantined_.end()
              : from_start ? quarantined_.lower_bound(FirstOf(slot))
                           : quarantined_.upper_bound(after);
  while (true) {
    const bool has_here = here != ordered_.end() && here->slot() == slot;
    const bool has_lost = lost != quarantined_.end() && lost->first.slot() == slot;
    if (!has_here && !has_lost) return listing;
    if (listing.chunks.size() >= limit) {
      listing.more = true;
      return listing;
    }
    if (has_lost && (!has_here || lost->first <= *here)) {
      if (has_here && lost->first == *here) ++here;  // while it is being repaired
      listing.chunks.push_back({.id = lost->first,
                                .sealed = true,
                                .tokens = lost->second.tokens,
                                .checksum = lost->second.checksum,
                                .lost = true});
      ++lost;
      continue;
    }
    ChunkInfo info = *Stat(*here, now);
    if (!info.sealed) info.layer_tokens = LayerTokens(*Find(*here));
    listing.chunks.push_back(std::move(info));
    ++here;
  }
}

bool LatentStore::DropSlot(Slot slot, uint32_t most) {
  bool leased = false;
  uint32_t dropped = 0;
  auto it = ordered_.lower_bound(FirstOf(slot));
  while (it != ordered_.end() && it->slot() == slot) {
    if (dropped == most) return false;
    const ChunkId id = *it;
    Chunk& chunk = *Find(id);
    if (!chunk.leases.empty()) {
      leased = true;
      ++it;
      continue;
    }
    Drop(chunk);
    ++released_;
    ++dropped;
    it = ordered_.upper_bound(id);
  }
  for (auto lost = quarantined_.lower_bound(FirstOf(slot));
       lost != quarantined_.end() && lost->first.slot() == slot;) {
    lost = quarantined_.erase(lost);
  }
  return !leased;
}

template <typename Do>
void LatentStore::ForOpenOfSlot(Slot slot, Do&& what) {
  auto it = ordered_.lower_bound(FirstOf(slot));
  while (it != ordered_.end() && it->slot() == slot) {
    const ChunkId id = *it;
    Chunk& chunk = *Find(id);
    if (!chunk.sealed) what(chunk);
    it = ordered_.upper_bound(id);
  }
}

void LatentStore::DropOpenOfSlot(Slot slot) {
  ForOpenOfSlot(slot, [this](Chunk& chunk) {
    Drop(chunk);
    ++released_;
  });
}

void LatentStore::AdoptOpenOfSlot(Slot slot) {
  ForOpenOfSlot(slot, [this](Chunk& chunk) {
    uint32_t pages = 0;
    for (const ChunkPublisher& publisher : chunk.publishers) pages += publisher.pages;
    ForgetPublishers(chunk);
    Charge(chunk, kNodeSession, pages);
  });
}

bool LatentStore::DropOpen(const ChunkId& id) {
  Chunk* chunk = Find(id);
  if (chunk == nullptr || chunk->sealed) return false;
  Drop(*chunk);
  ++released_;
  return true;
}

bool LatentStore::Discard(const ChunkId& id) {
  const bool was_lost = quarantined_.erase(id) != 0;
  Chunk* chunk = Find(id);
  if (chunk == nullptr) return was_lost;
  Drop(*chunk);
  ++released_;
  return true;
}

std::vector<ChunkId> LatentStore::Orphans(absl::Time unused_since) const {
  std::vector<ChunkId> orphans;
  const auto it = sessions_.find(kNodeSession);
  if (it == sessions_.end()) return orphans;
  for (const ChunkId& id : it->second.publishing) {
    const Chunk& chunk = *Find(id);
    if (chunk.publishers.size() == 1 && chunk.last_use <= unused_since) orphans.push_back(id);
  }
  return orphans;
}

}  // namespace latentd
