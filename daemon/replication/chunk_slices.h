// How the records of a chunk are cut for being sent from node to node. Pure.
#ifndef LATENTD_DAEMON_REPLICATION_CHUNK_SLICES_H_
#define LATENTD_DAEMON_REPLICATION_CHUNK_SLICES_H_

#include <cstdint>
#include <vector>

#include "client/slices.h"
#include "daemon/replication/copy_source.h"
#include "routing/layout.h"

namespace latentd {

// What `chunk` has from token `first_token` on, layers that end alike together, in slices of at most
// about `slice_bytes`.
std::vector<Slice> SlicesOf(const ChunkState& chunk, uint32_t first_token, const Layout& layout,
                            uint64_t slice_bytes);

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_CHUNK_SLICES_H_
