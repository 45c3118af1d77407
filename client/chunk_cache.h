// `ChunkCache` is a client's own cache of fetched chunks: pages of host memory in the layout's
// format, what is in them (page_cache.h), and attention over them.
//
// The client's thread only. Uses and batches end before it does.
#ifndef LATENTD_CLIENT_CHUNK_CACHE_H_
#define LATENTD_CLIENT_CHUNK_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cached_attention.h"
#include "client/page_cache.h"
#include "client/query.h"
#include "kernels/mla.h"
#include "kernels/rotation.h"
#include "routing/layout.h"

namespace latentd {

class ChunkCache {
 public:
  // `threads`: helpers of attention besides the client's own thread. INVALID_ARGUMENT: `bytes` is
  // less than a page of the layout. RESOURCE_EXHAUSTED: that memory cannot be had.
  static absl::StatusOr<std::unique_ptr<ChunkCache>> Create(const Layout& layout, uint64_t bytes,
                                                            int threads);

  PageCache& pages() { return pages_; }
  CachedAttention& attention() { return attention_; }
  const Layout& layout() const { return layout_; }

  // The turn of a chunk that is used at another position; errors are CheckShift's (kernels/rope.h).
  absl::StatusOr<Rotation> RotationBy(int32_t position_shift) const;
  // Takes records [layers][tokens][record] of a range within one page, which has one: copies what
  // has not arrived yet, turns it while it is in the processor's cache, and marks it. What is there
  // already stays as it is, and is not turned again.
  void Store(PageCache::Use& use, const Rotation& rotation, const ChunkRange& range,
             std::span<const std::byte> records);

  // Where a record lies; null if it has not arrived.
  const std::byte* Find(const PageCache::Use& use, uint32_t layer, uint32_t token) const;

  void CountChunks(uint64_t hits, uint64_t misses) {
    hits_ += hits;
    misses_ += misses;
  }
  CacheCounters counters() const;

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  using Memory = std::unique_ptr<std::byte[], Free>;

  ChunkCache(const Layout& layout, uint64_t bytes, Memory memory, int threads);
  std::byte* RecordAt(uint32_t page, uint32_t layer, uint32_t token) const;

  const Layout layout_;
  const Memory memory_;
  PageCache pages_;
  CachedAttention attention_;
  uint64_t fetched_bytes_ = 0;
  uint64_t spliced_records_ = 0;
  uint64_t hits_ = 0;
  uint64_t misses_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_CHUNK_CACHE_H_
