// What sessions hold: leases, and the open chunks that they publish.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/store/chunk.h"
#include "daemon/store/latent_store.h"

namespace latentd {

absl::Status LatentStore::CheckLease(const ChunkId& id, const SessionToken& session,
                                     absl::Duration ttl) const {
  if (ttl > options_.max_lease) {
    return absl::InvalidArgumentError(
        absl::StrCat("a lease of ", absl::FormatDuration(ttl), "; the longest is ",
                     absl::FormatDuration(options_.max_lease), ": renew it before it ends"));
  }
  if (absl::Status s = CheckIntact(id); !s.ok()) return s;
  const Chunk* chunk = Find(id);
  if (chunk == nullptr) {
    return absl::NotFoundError(absl::StrCat("chunk ", ToString(id), " is not here"));
  }
  const bool is_ours = std::any_of(chunk->publishers.begin(), chunk->publishers.end(),
                                   [&](const ChunkPublisher& p) { return p.session == session; });
  if (!chunk->sealed && !is_ours) {
    return absl::FailedPreconditionError(
        absl::StrCat("chunk ", ToString(id),
                     " is open and another session's, and goes when that ends: it can be pinned "
                     "once it is sealed"));
  }
  return absl::OkStatus();
}

absl::Status LatentStore::Lease(const ChunkId& id, const SessionToken& session, absl::Duration ttl,
                                absl::Time now) {
  if (absl::Status s = CheckLease(id, session, ttl); !s.ok()) return s;
  Chunk* chunk = Find(id);
  const absl::Time expires = now + std::max(ttl, absl::ZeroDuration());
  const auto lease = std::find_if(chunk->leases.begin(), chunk->leases.end(),
                                  [&](const ChunkLease& l) { return l.session == session; });
  if (lease != chunk->leases.end()) {
    leases_by_expiry_.erase({lease->expires, id, session});
    lease->expires = expires;
  } else {
    chunk->leases.push_back({session, expires});
    sessions_[session].leases.insert(id);
  }
  leases_by_expiry_.insert({expires, id, session});
  chunk->last_use = now;
  Reclassify(*chunk);
  return absl::OkStatus();
}

bool LatentStore::Release(const ChunkId& id, const SessionToken& session, absl::Time now) {
  Chunk* chunk = Find(id);
  if (chunk == nullptr) return false;
  for (size_t i = 0; i < chunk->leases.size(); ++i) {
    if (chunk->leases[i].session != session) continue;
    ForgetLease(*chunk, i);
    chunk->last_use = now;
    Reclassify(*chunk);
    return true;
  }
  return false;
}

void LatentStore::ExpireLeases(absl::Time now) {
  while (!leases_by_expiry_.empty() && std::get<absl::Time>(*leases_by_expiry_.begin()) <= now) {
    const auto [expires, id, session] = *leases_by_expiry_.begin();
    Release(id, session, expires);
  }
}

std::vector<ChunkId> LatentStore::EndSession(const SessionToken& session, absl::Time now) {
  std::vector<ChunkId> dropped;
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return dropped;
  const Holdings holdings = std::move(it->second);
  sessions_.erase(it);
  // The holdings are gone from the index, the chunks' own lists follow.
  for (const ChunkId& id : holdings.leases) Release(id, session, now);
  for (const ChunkId& id : holdings.publishing) {
    Chunk& chunk = *Find(id);
    const auto own = std::find_if(chunk.publishers.begin(), chunk.publishers.end(),
                                  [&](const ChunkPublisher& p) { return p.session == session; });
    const uint32_t pages = own->pages;
    chunk.publishers.erase(own);
    if (!chunk.publishers.empty()) {  // whoever keeps the chunk answers for its pages
      Charge(chunk, chunk.publishers.front().session, pages);
      continue;
    }
    Drop(chunk);
    ++discarded_;
    dropped.push_back(id);
  }
  return dropped;
}

void LatentStore::TakeOver(Chunk& chunk, const SessionToken& session) {
  const auto node =
      std::find_if(chunk.publishers.begin(), chunk.publishers.end(),
                   [&](const ChunkPublisher& p) { return p.session == kNodeSession; });
  if (node == chunk.publishers.end()) return;
  const uint32_t pages = node->pages;
  chunk.publishers.erase(node);
  Holdings& holdings = sessions_[kNodeSession];
  holdings.publishing.erase(chunk.id);
  holdings.open_pages -= pages;
  EraseIfEmpty(kNodeSession);
  Charge(chunk, session, pages);
}

void LatentStore::Charge(Chunk& chunk, const SessionToken& session, uint32_t pages) {
  if (session != kNodeSession) TakeOver(chunk, session);
  auto own = std::find_if(chunk.publishers.begin(), chunk.publishers.end(),
                          [&](const ChunkPublisher& p) { return p.session == session; });
  if (own == chunk.publishers.end()) {
    chunk.publishers.push_back({session});
    own = chunk.publishers.end() - 1;
    sessions_[session].publishing.insert(chunk.id);
  }
  own->pages += pages;
  if (pages > 0) sessions_[session].open_pages += pages;
}

void LatentStore::ForgetPublishers(Chunk& chunk) {
  for (const auto& [session, pages] : chunk.publishers) {
    const auto it = sessions_.find(session);
    if (it == sessions_.end()) continue;
    it->second.publishing.erase(chunk.id);
    it->second.open_pages -= pages;
    EraseIfEmpty(session);
  }
  chunk.publishers.clear();
}

void LatentStore::ForgetLease(Chunk& chunk, size_t index) {
  const ChunkLease lease = chunk.leases[index];
  chunk.leases.erase(chunk.leases.begin() + index);
  leases_by_expiry_.erase({lease.expires, chunk.id, lease.session});
  const auto it = sessions_.find(lease.session);
  if (it == sessions_.end()) return;
  it->second.leases.erase(chunk.id);
  EraseIfEmpty(lease.session);
}

void LatentStore::EraseIfEmpty(const SessionToken& session) {
  const auto it = sessions_.find(session);
  if (it->second.publishing.empty() && it->second.leases.empty()) sessions_.erase(it);
}

}  // namespace latentd
