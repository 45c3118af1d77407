// One chunk as the latent store keeps it. The store's own: nobody else looks inside.
#ifndef LATENTD_DAEMON_STORE_CHUNK_H_
#define LATENTD_DAEMON_STORE_CHUNK_H_

#include <algorithm>
#include <cstdint>
#include <list>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "daemon/session/session.h"
#include "daemon/store/arrived_tokens.h"
#include "daemon/store/page_table.h"
#include "routing/ids.h"

namespace latentd {

// Who publishes an open chunk, and the pages of it that came with its records.
struct ChunkPublisher {
  SessionToken session;
  uint32_t pages = 0;
};

struct ChunkLease {
  SessionToken session;
  absl::Time expires;
};

// A chunk's life:
//     open     records arrive; it belongs to those that publish it, sessions or the node, and goes when
//              the last of them ends
//     sealed   never changes; evictable while nothing pins or leases it
//     dropped  out of the store's index, kept only until the last pin of work in flight is gone
struct Chunk {
  ChunkId id;
  uint64_t serial = 0;  // of all chunks that the store ever had
  bool sealed = false;
  bool dropped = false;
  uint32_t sealed_tokens = 0;
  uint32_t page_count = 0;
  uint32_t pins = 0;      // work in flight
  uint64_t checksum = 0;  // of the records that have arrived
  absl::Time last_use;
  PageTable pages;
  std::vector<ArrivedTokens> layers;
  absl::InlinedVector<ChunkPublisher, 1> publishers;  // none once sealed
  absl::InlinedVector<ChunkLease, 1> leases;

  // Bookkeeping of LatentStore::Reclassify.
  bool held = false;
  bool evictable = false;
  std::list<Chunk*>::iterator place;

  // Tokens arrived in every layer.
  uint32_t complete_tokens() const {
    uint32_t tokens = layers.front().prefix();
    for (const ArrivedTokens& layer : layers) tokens = std::min(tokens, layer.prefix());
    return tokens;
  }
  // One past the last token that has arrived in any layer.
  uint32_t end_token() const {
    uint32_t end = 0;
    for (const ArrivedTokens& layer : layers) end = std::max(end, layer.end());
    return end;
  }
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_CHUNK_H_
