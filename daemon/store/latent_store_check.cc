// The store's arithmetic done over again, the slow way.
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/store/chunk.h"
#include "daemon/store/latent_store.h"

namespace latentd {
namespace {

absl::Status Broken(const ChunkId& id, std::string_view what) {
  return absl::InternalError(
      absl::StrCat("chunk ", ToString(id), ": ", absl::string_view(what.data(), what.size())));
}

absl::Status Differ(std::string_view what, uint64_t kept, uint64_t counted) {
  return absl::InternalError(absl::StrCat(absl::string_view(what.data(), what.size()), ": kept ",
                                          kept, ", counted ", counted));
}

// Every page of the chunk is allocated and nobody else's; adds them to `owned`.
absl::Status CheckPages(const Chunk& chunk, const PageArena& arena, std::vector<bool>& owned) {
  uint32_t pages = 0;
  for (uint32_t i = 0; i < chunk.pages.size(); ++i) {
    const uint32_t page = chunk.pages[i];
    if (page == PageTable::kNoPage) continue;
    ++pages;
    if (!arena.IsAllocated(page)) return Broken(chunk.id, absl::StrCat("page ", page, " is free"));
    if (owned[page]) return Broken(chunk.id, absl::StrCat("page ", page, " has two owners"));
    owned[page] = true;
  }
  if (pages != chunk.page_count) return Broken(chunk.id, "page_count is wrong");
  for (const ArrivedTokens& layer : chunk.layers) {
    for (uint32_t token = 0; token < layer.end(); ++token) {
      if (layer.Contains(token, token + 1) &&
          chunk.pages[token / kPageTokens] == PageTable::kNoPage) {
        return Broken(chunk.id, absl::StrCat("token ", token, " has no page"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LatentStore::CheckInvariants() const {
  std::vector<bool> owned(arena_->pages_total(), false);
  uint64_t open = 0, held = 0, evictable_pages = 0, leases = 0, session_leases = 0, publishers = 0,
           publishing = 0;
  absl::flat_hash_map<SessionToken, uint64_t> open_pages;
  for (const auto& [id, chunk] : chunks_) {
    if (absl::Status s = CheckPages(*chunk, *arena_, owned); !s.ok()) return s;
    if (chunk->id != id || !ordered_.contains(id)) return Broken(id, "is indexed wrongly");
    if (chunk->dropped) return Broken(id, "is dropped but indexed");
    const bool is_held = chunk->pins > 0 || !chunk->leases.empty();
    if (chunk->held != is_held) return Broken(id, "held is wrong");
    if (chunk->evictable != (chunk->sealed && !is_held)) return Broken(id, "evictable is wrong");
    if (chunk->sealed != chunk->publishers.empty()) return Broken(id, "publishers are wrong");
    open += !chunk->sealed;
    held += is_held;
    if (chunk->evictable) evictable_pages += chunk->page_count;
    for (const ChunkLease& lease : chunk->leases) {
      ++leases;
      if (!leases_by_expiry_.contains({lease.expires, id, lease.session})) {
        return Broken(id, "a lease has no expiry");
      }
    }
    publishers += chunk->publishers.size();
    uint32_t charged = 0;
    for (const ChunkPublisher& publisher : chunk->publishers) {
      charged += publisher.pages;
      open_pages[publisher.session] += publisher.pages;
    }
    if (!chunk->sealed && charged != chunk->page_count) {
      return Broken(id, "has pages that no session answers for");
    }
  }
  for (const auto& [key, chunk] : dropped_) {
    if (absl::Status s = CheckPages(*chunk, *arena_, owned); !s.ok()) return s;
    if (!chunk->dropped || chunk->pins == 0) return Broken(chunk->id, "is kept for nobody");
  }
  for (const auto& [id, was] : quarantined_) {
    const Chunk* chunk = Find(id);
    if (chunk != nullptr && chunk->sealed) return Broken(id, "is sealed and quarantined");
  }
  uint64_t used = 0;
  for (const bool page : owned) used += page;
  for (const auto& [session, holdings] : sessions_) {
    if (holdings.leases.empty() && holdings.publishing.empty()) {
      return absl::InternalError("a session that holds nothing is kept");
    }
    if (holdings.open_pages != open_pages[session]) {
      return Differ("open pages of a session", holdings.open_pages, open_pages[session]);
    }
    session_leases += holdings.leases.size();
    publishing += holdings.publishing.size();
  }
  const uint64_t pages_used = arena_->pages_total() - arena_->pages_free();
  if (used != pages_used) return Differ("pages", pages_used, used);
  if (open != open_) return Differ("open chunks", open_, open);
  if (held != held_) return Differ("held chunks", held_, held);
  if (evictable_pages != evictable_pages_) {
    return Differ("evictable pages", evictable_pages_, evictable_pages);
  }
  if (leases != leases_by_expiry_.size()) return Differ("leases", leases_by_expiry_.size(), leases);
  if (leases != session_leases) return Differ("leases of sessions", session_leases, leases);
  if (publishers != publishing) return Differ("publishers", publishing, publishers);
  if (ordered_.size() != chunks_.size()) {
    return Differ("ordered ids", ordered_.size(), chunks_.size());
  }
  if (evictable_.size() + others_.size() != chunks_.size()) {
    return Differ("listed chunks", evictable_.size() + others_.size(), chunks_.size());
  }
  return absl::OkStatus();
}

}  // namespace latentd
