// `PageCache` knows which records of which chunks a requester has in pages of its own: the
// bookkeeping of a bounded cache, without its memory.
//
// What is cached is a sealed chunk at a position shift, in the layout's pages: token t of a chunk
// lies at t % 64 of the chunk's page t / 64, in all layers, as at a holder. A page is taken as soon
// as one token of it is wanted, so tokens picked from everywhere take up to 64 times their bytes.
// Entries that nobody uses are evicted whole, the least recently used first.
//
// Pure; the client's thread only. Uses end before the cache does.
#ifndef LATENTD_CLIENT_PAGE_CACHE_H_
#define LATENTD_CLIENT_PAGE_CACHE_H_

#include <compare>
#include <cstdint>
#include <limits>
#include <list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/query.h"
#include "routing/ids.h"

namespace latentd {

struct CacheKey {
  ChunkId chunk;
  int32_t position_shift = 0;

  friend bool operator==(const CacheKey&, const CacheKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const CacheKey& key) {
    return H::combine(std::move(h), key.chunk, key.position_shift);
  }
};

// What somebody wants to have pages for. `runs` lie within the chunk.
struct CacheWant {
  CacheKey key;
  uint32_t chunk_tokens = 0;
  std::span<const TokenRun> runs;
};

class PageCache {
  struct Entry;

 public:
  static constexpr uint32_t kNoPage = std::numeric_limits<uint32_t>::max();

  // As many whole pages as `bytes` have room for. REQUIRES: layers and page_bytes of at least 1.
  PageCache(uint32_t layers, uint64_t page_bytes, uint64_t bytes);
  PageCache(const PageCache&) = delete;
  PageCache& operator=(const PageCache&) = delete;

  // An entry that is not evicted while it is in use.
  class Use {
   public:
    Use() = default;
    Use(Use&& other) noexcept
        : cache_(std::exchange(other.cache_, nullptr)), entry_(other.entry_) {}
    Use& operator=(Use&& other) noexcept {
      Use taken(std::move(other));
      std::swap(cache_, taken.cache_);
      std::swap(entry_, taken.entry_);
      return *this;
    }
    ~Use() {
      if (cache_ != nullptr) cache_->Release(*entry_);
    }

    explicit operator bool() const { return cache_ != nullptr; }
    const CacheKey& key() const { return entry_->key; }
    uint32_t chunk_tokens() const { return entry_->chunk_tokens; }
    // [ceil(chunk_tokens / 64)], kNoPage where there is none; at one address for the entry's life.
    std::span<const uint32_t> page_ids() const { return entry_->page_ids; }
    // Bit t: token t of the page has arrived in the layer.
    uint64_t Arrived(uint32_t layer, uint32_t page) const { return *Mask(layer, page); }
    // REQUIRES: there is a page.
    void MarkArrived(uint32_t layer, uint32_t page, uint64_t tokens) {
      *Mask(layer, page) |= tokens;
    }
    // Whether the first `tokens` tokens of the chunk have arrived in the layer.
    bool Covers(uint32_t layer, uint32_t tokens) const;
    // What of `runs` has not arrived, in the order of pages: each range lies within one page, and
    // has all consecutive layers that miss the same tokens of it.
    std::vector<ChunkRange> Missing(uint32_t first_layer, uint32_t layers,
                                    std::span<const TokenRun> runs) const;

   private:
    friend class PageCache;
    Use(PageCache* cache, Entry* entry) : cache_(cache), entry_(entry) {}
    uint64_t* Mask(uint32_t layer, uint32_t page) const {
      return &entry_->arrived[uint64_t{layer} * entry_->page_ids.size() + page];
    }

    PageCache* cache_ = nullptr;
    Entry* entry_ = nullptr;
  };

  // Gives each want its pages, in the order of wants, evicting where that is needed; all or none.
  // RESOURCE_EXHAUSTED says how many bytes are needed, and how many are free or in nobody's use;
  // nothing is evicted then. FAILED_PRECONDITION: the chunk is in use with another number of tokens.
  absl::StatusOr<std::vector<Use>> Reserve(std::span<const CacheWant> wants);
  // Empty if there is no such entry. Counts as a use of it.
  Use Find(const CacheKey& key);
  // The tokens of the chunk, if it is there.
  std::optional<uint32_t> TokensOf(const CacheKey& key) const;
  // Forgets the chunk at every shift, but where it is in use.
  void Drop(const ChunkId& chunk);

  uint64_t page_bytes() const { return page_bytes_; }
  uint64_t capacity_bytes() const { return pages_ * page_bytes_; }
  uint64_t bytes_in_use() const { return pages_taken_ * page_bytes_; }
  uint64_t peak_bytes() const { return peak_pages_ * page_bytes_; }
  // Of entries that nobody uses.
  uint64_t evictable_bytes() const { return evictable_pages_ * page_bytes_; }
  uint64_t evictions() const { return evictions_; }
  size_t entries() const { return by_key_.size(); }

 private:
  struct Entry {
    CacheKey key;
    uint32_t chunk_tokens = 0;
    std::vector<uint32_t> page_ids;
    std::vector<uint64_t> arrived;  // [layers][pages]
    uint64_t pages = 0;             // that it has
    uint32_t uses = 0;
    bool may_have_empty_pages = false;
    std::list<Entry>::iterator self;
  };

  absl::StatusOr<Entry*> FindOrMake(const CacheWant& want);
  Use Acquire(Entry& entry);
  void Release(Entry& entry);
  void FreeEmptyPages(Entry& entry);
  void Remove(Entry& entry);
  void Evict(uint64_t pages);
  uint32_t TakePage();
  void FreePage(uint32_t page);

  const uint32_t layers_;
  const uint64_t page_bytes_;
  const uint64_t pages_;
  std::list<Entry> order_;  // least recently used first
  absl::flat_hash_map<CacheKey, Entry*> by_key_;
  std::vector<uint32_t> free_;  // that were in use before
  uint32_t never_used_ = 0;     // pages from here on
  uint64_t pages_taken_ = 0;
  uint64_t peak_pages_ = 0;
  uint64_t evictable_pages_ = 0;
  uint64_t evictions_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_PAGE_CACHE_H_
