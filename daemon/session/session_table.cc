#include "daemon/session/session_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {

absl::Status SessionTable::Add(SessionGrant grant, absl::Time now) {
  if (!grant.peer_node.empty()) {
    ++of_nodes_;
  } else if (sessions_.size() - of_nodes_ >= rules_.max_sessions) {
    return absl::ResourceExhaustedError(
        absl::StrCat("sessions: all ", rules_.max_sessions, " (data.limits.sessions) are in use"));
  }
  const SessionToken token = grant.token;
  sessions_.emplace(token, Entry{std::move(grant), now + rules_.ttl});
  return absl::OkStatus();
}

absl::Status SessionTable::Renew(const SessionToken& token, absl::Time now) {
  const auto it = sessions_.find(token);
  // One whose time has passed is over even if nobody has swept it out yet.
  if (it == sessions_.end() || it->second.expires <= now) {
    return absl::NotFoundError("session: unknown or expired; open a new one");
  }
  it->second.expires = now + rules_.ttl;
  return absl::OkStatus();
}

std::optional<SessionGrant> SessionTable::Remove(const SessionToken& token) {
  const auto it = sessions_.find(token);
  if (it == sessions_.end()) return std::nullopt;
  SessionGrant grant = std::move(it->second.grant);
  sessions_.erase(it);
  if (!grant.peer_node.empty()) --of_nodes_;
  return grant;
}

std::vector<SessionGrant> SessionTable::Expire(absl::Time now) {
  std::vector<SessionGrant> over;
  absl::erase_if(sessions_, [&](auto& entry) {
    if (entry.second.expires > now) return false;
    if (!entry.second.grant.peer_node.empty()) --of_nodes_;
    over.push_back(std::move(entry.second.grant));
    return true;
  });
  return over;
}

std::vector<SessionGrant> SessionTable::Clear() { return Expire(absl::InfiniteFuture()); }

absl::Time SessionTable::NextExpiry() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [token, entry] : sessions_) next = std::min(next, entry.expires);
  return next;
}

}  // namespace latentd
