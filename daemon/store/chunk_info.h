// What can be said of one chunk to operators and to STAT. Values; any thread.
#ifndef LATENTD_DAEMON_STORE_CHUNK_INFO_H_
#define LATENTD_DAEMON_STORE_CHUNK_INFO_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "routing/ids.h"

namespace latentd {

struct ChunkInfo {
  ChunkId id;
  bool sealed = false;
  uint32_t tokens = 0;  // sealed: its count; open: tokens arrived in every layer
  uint32_t pages = 0;
  uint32_t leases = 0;
  absl::Duration idle;  // since last use
  uint64_t checksum = 0;
  bool lost = false;  // listed by slot: sealed once, and quarantined
  // Open, and listed by slot: tokens arrived in each layer, from its start.
  std::vector<uint32_t> layer_tokens{};
};

struct ChunkListing {
  std::vector<ChunkInfo> chunks;  // ascending by id
  bool more = false;              // others match that are not listed
  std::optional<uint64_t> total;  // that match, listed or not, where it need not be counted
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_CHUNK_INFO_H_
