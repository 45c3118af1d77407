// A connection may stand while its peer is frozen, and keeps what it is owed: payloads that are
// half way, answers that it does not take. So a peer that is owed an answer and gives no sign of
// life is asked, and if nothing comes then either its connection is closed, which gives all that
// memory back. A sign of life is a message or a payload that came whole, or an answer that was
// taken: a PING may wait long behind many megabytes that a busy peer is taking one by one. Its
// session goes on, with its leases and open chunks, as long as it is renewed over gRPC; a client
// that was only busy elsewhere says HELLO again. A peer that is owed nothing is left in peace.
#include <utility>

#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"

namespace latentd {

LivenessOptions LaneImpl::LivenessRules() const {
  return {.ping_after = options_.ping_after,
          .dead_after = options_.dead_after - options_.ping_after};
}

void LaneImpl::Heard(LaneSession& session, absl::Time now) {
  session.liveness.OnHeard(now);
  session.farewell_unanswered = false;
}

void LaneImpl::Moved(LaneSession& session) {
  if (session.state == LaneSession::State::kBound) session.liveness.OnHeard(SteadyNow());
}

void LaneImpl::CheckPeers(absl::Time now) {
  // A lane that was itself frozen hears first what came meanwhile.
  if (now - last_housekeeping_ > options_.ping_after) return;
  for (const auto& [token, session] : sessions_) CheckPeer(session, now);
}

void LaneImpl::CheckPeer(const SessionPtr& session, absl::Time now) {
  if (session->state != LaneSession::State::kBound) return;
  switch (session->liveness.Tick(now)) {
    case Liveness::Action::kNothing:
      return;
    case Liveness::Action::kPing:
      return SendPing(session);
    case Liveness::Action::kDead:
      break;
  }
  if (session->liveness.outstanding() == 0) {  // UCX has taken meanwhile what it was owed
    session->liveness = Liveness(LivenessRules(), now);
    return;
  }
  stats_.peer_timeouts.Add();
  const size_t dropped = Unbind(session);
  LogInfo("silent connection closed", {{"client", session->grant.client_name},
                                       {"lane", options_.index},
                                       {"silence", absl::FormatDuration(options_.dead_after)},
                                       {"requests_in_flight", dropped}});
}

void LaneImpl::SendPing(const SessionPtr& session) {
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
  // By the PING that it answers: one connection may speak for several sessions.
  for (const auto& [token, session] : sessions_) {
    if (session->key != reply->header.request_id) continue;
    if (session->sender == message.sender()) Heard(*session, SteadyNow());
    return;
  }
}

}  // namespace latentd
