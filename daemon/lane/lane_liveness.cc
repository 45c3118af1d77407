// A connection may stand while its peer is frozen, and shared memory reports nobody's death: so a
// peer that the lane holds something for, and that says nothing, is asked, and given up when it
// does not answer. A peer that neither waits for us nor holds anything here is left in peace.
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"

namespace latentd {

void LaneImpl::Heard(LaneSession& session, absl::Time now) {
  session.last_heard = now;
  session.pinged = absl::InfiniteFuture();
}

void LaneImpl::CheckPeers(absl::Time now) {
  // A lane that was itself frozen must not count that time as its peers' silence.
  if (now - last_housekeeping_ > options_.ping_after) {
    for (const auto& [token, session] : sessions_) {
      if (session->pinged <= now) session->pinged = now;
    }
    return;
  }
  std::vector<SessionPtr> sessions;  // a peer given up leaves the map
  sessions.reserve(sessions_.size());
  for (const auto& [token, session] : sessions_) sessions.push_back(session);
  for (const SessionPtr& session : sessions) CheckPeer(session, now);
}

void LaneImpl::CheckPeer(const SessionPtr& session, absl::Time now) {
  if (session->state != LaneSession::State::kBound) return;
  const bool matters = !session->requests.empty() || session->unsent_notes > 0 ||
                       store_->HoldsAnything(session->grant.token);
  if (!matters) {
    session->pinged = absl::InfiniteFuture();
    return;
  }
  if (session->pinged <= now) {
    if (now - session->pinged < options_.dead_after - options_.ping_after) return;
    stats_.peer_timeouts.Add();
    LoseSession(session, absl::UnavailableError(
                             absl::StrCat("the client has not answered for ",
                                          absl::FormatDuration(now - session->last_heard))));
    return;
  }
  if (now - session->last_heard >= options_.ping_after) SendPing(session, now);
}

void LaneImpl::SendPing(const SessionPtr& session, absl::Time now) {
  session->pinged = now;
  wire::RequestHeader header = {};
  header.request_id = session->key;
  header.token_hi = session->grant.token.hi;
  header.token_lo = session->grant.token.lo;
  header.epoch = slots_ == nullptr ? 0 : ToInt(slots_->epoch());
  header.generation = ToInt(options_.generation);
  header.deadline_us =
      static_cast<uint32_t>(absl::ToInt64Microseconds(options_.dead_after - options_.ping_after));
  BuildPing(header, &scratch_);
  SendNote(session, wire::kRequestAm, wire::Code::kOk);
}

// The only replies that come to a lane answer its PINGs.
void LaneImpl::OnReply(IncomingMessage message) {
  if (worker_ == nullptr) return;  // it is being destroyed
  const auto reply = ParseReply(message.header(), message.payload_bytes(), wire_limits_);
  if (!reply.ok() || reply->opcode() != wire::Opcode::kPing) {
    stats_.malformed_messages.Add();
    return;
  }
  const auto it = by_sender_.find(message.sender());
  if (it != by_sender_.end()) Heard(*it->second, SteadyNow());
}

}  // namespace latentd
