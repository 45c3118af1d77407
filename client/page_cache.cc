#include "client/page_cache.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "kernels/mla.h"

namespace latentd {
namespace {

// A page that has been asked for and not been given yet.
constexpr uint32_t kWanted = PageCache::kNoPage - 1;

// Bits [first, first + count).
uint64_t Bits(uint32_t first, uint32_t count) {
  return (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << first;
}

// What `runs` have of each page from `first_page` on.
std::vector<uint64_t> MasksOf(std::span<const TokenRun> runs, size_t pages) {
  std::vector<uint64_t> masks(pages);
  for (const TokenRun& run : runs) {
    const uint64_t end = uint64_t{run.first} + run.tokens;
    for (uint64_t token = run.first; token < end;) {
      const auto at = static_cast<uint32_t>(token % kPageTokens);
      const auto count = static_cast<uint32_t>(std::min<uint64_t>(kPageTokens - at, end - token));
      masks[token / kPageTokens] |= Bits(at, count);
      token += count;
    }
  }
  return masks;
}

}  // namespace

PageCache::PageCache(uint32_t layers, uint64_t page_bytes, uint64_t bytes)
    : layers_(layers),
      page_bytes_(page_bytes),
      pages_(std::min<uint64_t>(bytes / page_bytes, kWanted)) {}

bool PageCache::Use::Covers(uint32_t layer, uint32_t tokens) const {
  if (tokens > entry_->chunk_tokens) return false;
  for (uint32_t page = 0; page * kPageTokens < tokens; ++page) {
    const uint64_t wanted = Bits(0, std::min(kPageTokens, tokens - page * kPageTokens));
    if ((Arrived(layer, page) & wanted) != wanted) return false;
  }
  return true;
}

std::vector<ChunkRange> PageCache::Use::Missing(uint32_t first_layer, uint32_t layers,
                                                std::span<const TokenRun> runs) const {
  std::vector<ChunkRange> missing;
  const std::vector<uint64_t> wanted = MasksOf(runs, entry_->page_ids.size());
  for (uint32_t page = 0; page < wanted.size(); ++page) {
    for (uint32_t layer = first_layer; layer < first_layer + layers;) {
      uint64_t lacks = wanted[page] & ~Arrived(layer, page);
      uint32_t end = layer + 1;
      while (end < first_layer + layers && (wanted[page] & ~Arrived(end, page)) == lacks) ++end;
      while (lacks != 0) {
        const auto first = static_cast<uint32_t>(std::countr_zero(lacks));
        const auto tokens = static_cast<uint32_t>(std::countr_one(lacks >> first));
        missing.push_back({.chunk = entry_->key.chunk,
                           .first_layer = layer,
                           .layers = end - layer,
                           .first_token = page * kPageTokens + first,
                           .tokens = tokens});
        lacks &= ~Bits(first, tokens);
      }
      layer = end;
    }
  }
  return missing;
}

absl::StatusOr<std::vector<PageCache::Use>> PageCache::Reserve(std::span<const CacheWant> wants) {
  std::vector<Use> uses;
  uint64_t needed = 0;
  absl::Status status;
  for (const CacheWant& want : wants) {
    const absl::StatusOr<Entry*> entry = FindOrMake(want);
    if (!entry.ok()) {
      status = entry.status();
      break;
    }
    uses.push_back(Acquire(**entry));
    const std::vector<uint64_t> masks = MasksOf(want.runs, (*entry)->page_ids.size());
    for (size_t page = 0; page < masks.size(); ++page) {
      uint32_t& id = (*entry)->page_ids[page];
      if (masks[page] == 0 || id != kNoPage) continue;
      id = kWanted;
      ++needed;
    }
  }
  const uint64_t available = pages_ - pages_taken_ + evictable_pages_;
  if (status.ok() && needed > available) {
    status = absl::ResourceExhaustedError(
        absl::StrCat("cache: needs ", needed * page_bytes_, " bytes more, and of its ",
                     capacity_bytes(), " bytes ", available * page_bytes_, " are free or unused"));
  }
  if (status.ok()) Evict(needed);
  for (const Use& use : uses) {
    Entry& entry = *use.entry_;
    for (uint32_t& id : entry.page_ids) {
      if (id != kWanted) continue;
      id = status.ok() ? TakePage() : kNoPage;
      entry.pages += status.ok() ? 1 : 0;
      entry.may_have_empty_pages = true;
    }
  }
  if (!status.ok()) return status;
  return uses;
}

PageCache::Use PageCache::Find(const CacheKey& key) {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? Use() : Acquire(*found->second);
}

std::optional<uint32_t> PageCache::TokensOf(const CacheKey& key) const {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  return found->second->chunk_tokens;
}

void PageCache::Drop(const ChunkId& chunk) {
  for (auto at = order_.begin(); at != order_.end();) {
    Entry& entry = *at++;
    if (entry.key.chunk == chunk && entry.uses == 0) Remove(entry);
  }
}

absl::StatusOr<PageCache::Entry*> PageCache::FindOrMake(const CacheWant& want) {
  if (const auto found = by_key_.find(want.key); found != by_key_.end()) {
    Entry& entry = *found->second;
    if (entry.chunk_tokens == want.chunk_tokens) return &entry;
    // Published anew after its holders had forgotten it.
    if (entry.uses > 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("chunk ", ToString(want.key.chunk), ": has ", want.chunk_tokens,
                       " tokens, and is in use in the cache with ", entry.chunk_tokens));
    }
    Remove(entry);
  }
  Entry& entry = order_.emplace_back();
  entry.self = std::prev(order_.end());
  entry.key = want.key;
  entry.chunk_tokens = want.chunk_tokens;
  entry.page_ids.assign((uint64_t{want.chunk_tokens} + kPageTokens - 1) / kPageTokens, kNoPage);
  entry.arrived.assign(entry.page_ids.size() * layers_, 0);
  by_key_[want.key] = &entry;
  return &entry;
}

PageCache::Use PageCache::Acquire(Entry& entry) {
  if (entry.uses++ == 0) evictable_pages_ -= entry.pages;
  order_.splice(order_.end(), order_, entry.self);
  return Use(this, &entry);
}

void PageCache::Release(Entry& entry) {
  if (--entry.uses > 0) return;
  if (entry.may_have_empty_pages) FreeEmptyPages(entry);
  evictable_pages_ += entry.pages;
  if (entry.pages == 0) Remove(entry);
}

// What was reserved for records that never came.
void PageCache::FreeEmptyPages(Entry& entry) {
  const size_t pages = entry.page_ids.size();
  for (size_t page = 0; page < pages; ++page) {
    if (entry.page_ids[page] == kNoPage) continue;
    uint64_t any = 0;
    for (uint32_t layer = 0; layer < layers_; ++layer) any |= entry.arrived[layer * pages + page];
    if (any != 0) continue;
    FreePage(std::exchange(entry.page_ids[page], kNoPage));
    --entry.pages;
  }
  entry.may_have_empty_pages = false;
}

// REQUIRES: nobody uses it.
void PageCache::Remove(Entry& entry) {
  evictable_pages_ -= entry.pages;
  for (const uint32_t page : entry.page_ids) {
    if (page != kNoPage) FreePage(page);
  }
  by_key_.erase(entry.key);
  order_.erase(entry.self);
}

// Until so many are free.
void PageCache::Evict(uint64_t pages) {
  for (auto at = order_.begin(); pages_ - pages_taken_ < pages && at != order_.end();) {
    Entry& entry = *at++;
    if (entry.uses > 0) continue;
    Remove(entry);
    ++evictions_;
  }
}

uint32_t PageCache::TakePage() {
  peak_pages_ = std::max(peak_pages_, ++pages_taken_);
  if (free_.empty()) return never_used_++;
  const uint32_t page = free_.back();
  free_.pop_back();
  return page;
}

void PageCache::FreePage(uint32_t page) {
  free_.push_back(page);
  --pages_taken_;
}

}  // namespace latentd
