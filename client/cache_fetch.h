// Fetching into the client's own pages: what a call asks for, checked; and the operation that asks
// holders for what is missing of it.
#ifndef LATENTD_CLIENT_CACHE_FETCH_H_
#define LATENTD_CLIENT_CACHE_FETCH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/chunk_cache.h"
#include "client/operation.h"
#include "client/query.h"
#include "kernels/rotation.h"

namespace latentd {

using CacheFetchCallback = std::function<void(absl::StatusOr<CacheFetchReport>)>;

// A part of the call with all that it leaves out filled in, and runs of its own.
struct CacheTask {
  ChunkId chunk;
  int32_t position_shift = 0;
  Rotation rotation;
  std::vector<TokenRun> runs;  // empty: all of the chunk
  uint32_t first_layer = 0;
  uint32_t layers = 0;
  uint32_t chunk_tokens = 0;  // 0: not known yet
};

// INVALID_ARGUMENT: no part, a run without tokens; OUT_OF_RANGE: layers, tokens beyond 32 bits, or a
// shift beyond the model's positions; FAILED_PRECONDITION: a shift and a layout without rope.
// Tokens of chunks that the cache knows are filled in.
absl::StatusOr<std::vector<CacheTask>> CheckCacheParts(std::span<const CachePart> parts,
                                                       ChunkCache& cache);
// The chunks whose tokens are not known.
std::vector<ChunkId> UnknownChunks(std::span<const CacheTask> tasks);
// Fills in tokens from what holders say. NOT_FOUND: a chunk that is not there; FAILED_PRECONDITION:
// one that is not sealed; INTERNAL: one of no tokens.
absl::Status FillIn(std::span<const ChunkStat> stats, std::vector<CacheTask>* tasks);

// Takes pages, and asks holders for what is missing in them. OUT_OF_RANGE: a run beyond the chunk's
// end; RESOURCE_EXHAUSTED as PageCache::Reserve. What has arrived before an error stays cached.
absl::StatusOr<std::unique_ptr<Operation>> MakeCacheFetch(std::vector<CacheTask> tasks,
                                                          ChunkCache& cache,
                                                          CacheFetchCallback done);

}  // namespace latentd

#endif  // LATENTD_CLIENT_CACHE_FETCH_H_
