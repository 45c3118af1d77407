// Who may go, who goes, and what becomes of their pages.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "daemon/store/chunk.h"
#include "daemon/store/latent_store.h"
#include "transport/errors.h"

namespace latentd {
namespace {

// When a full store may have room again: leases and open chunks go in human time, not in network
// time.
constexpr absl::Duration kFullRetry = absl::Milliseconds(50);

}  // namespace

absl::Status LatentStore::MakeRoom(uint32_t pages, bool new_chunk, absl::Time now) {
  ExpireLeases(now);
  const uint64_t total = arena_->pages_total();
  if (pages > arena_->pages_free() + evictable_pages_) {
    return WithRetryAfter(
        absl::ResourceExhaustedError(absl::StrCat(
            "the cache is full: ", pages, " pages needed, ", arena_->pages_free(), " of ", total,
            " free and ", evictable_pages_, " evictable (", arena_->bytes(), " bytes in all)")),
        kFullRetry);
  }
  if (new_chunk && chunks_.size() >= options_.max_chunks && evictable_.empty()) {
    return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                              "the cache holds ", chunks_.size(), " chunks, its limit is ",
                              options_.max_chunks, " and none is evictable")),
                          kFullRetry);
  }
  const auto used_after = [&] { return total - arena_->pages_free() + pages; };
  const auto evict_oldest = [&] {
    Drop(*evictable_.front());
    ++evicted_;
  };
  if (pages > 0 && used_after() > high_pages_) {
    while (!evictable_.empty() && used_after() > low_pages_) evict_oldest();
  }
  if (new_chunk && chunks_.size() >= options_.max_chunks) evict_oldest();
  return absl::OkStatus();
}

void LatentStore::Reclassify(Chunk& chunk) {
  const bool held = chunk.pins > 0 || !chunk.leases.empty();
  if (held != chunk.held) {
    chunk.held = held;
    held_ += held ? 1 : -1;
  }
  const bool evictable = chunk.sealed && !held;
  if (evictable == chunk.evictable) return;
  chunk.evictable = evictable;
  if (evictable) {
    // It is in use up to this moment: the last to go.
    evictable_.splice(evictable_.end(), others_, chunk.place);
    evictable_pages_ += chunk.page_count;
  } else {
    others_.splice(others_.end(), evictable_, chunk.place);
    evictable_pages_ -= chunk.page_count;
  }
}

void LatentStore::Touch(Chunk& chunk, absl::Time now) {
  chunk.last_use = now;
  if (chunk.evictable) evictable_.splice(evictable_.end(), evictable_, chunk.place);
}

void LatentStore::Drop(Chunk& chunk) {
  ForgetPublishers(chunk);
  while (!chunk.leases.empty()) ForgetLease(chunk, chunk.leases.size() - 1);
  if (chunk.evictable) {
    evictable_pages_ -= chunk.page_count;
    evictable_.erase(chunk.place);
  } else {
    others_.erase(chunk.place);
  }
  if (chunk.held) --held_;
  if (!chunk.sealed) --open_;
  chunk.dropped = true;
  const auto it = chunks_.find(chunk.id);
  auto owned = std::move(it->second);
  chunks_.erase(it);
  ordered_.erase(chunk.id);
  if (chunk.pins > 0) {
    dropped_.emplace(&chunk, std::move(owned));
  } else {
    FreePages(chunk);
  }
}

void LatentStore::FreePages(Chunk& chunk) {
  for (uint32_t i = 0; i < chunk.pages.size(); ++i) {
    if (chunk.pages[i] != PageTable::kNoPage) arena_->Free(chunk.pages[i]);
  }
}

}  // namespace latentd
