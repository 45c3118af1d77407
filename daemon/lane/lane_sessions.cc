// Sessions begin (the process says so), bind (HELLO) and end (the process says so, or their
// connection fails).
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"

namespace latentd {

void LaneImpl::Add(SessionGrant grant) {
  const SessionToken token = grant.token;
  if (sessions_.contains(token)) return;
  auto session = std::make_shared<LaneSession>(LivenessRules(), SteadyNow());
  session->grant = std::move(grant);
  session->key = next_key_++;
  sessions_.emplace(token, std::move(session));
}

LaneImpl::SessionPtr LaneImpl::FindSession(const wire::RequestHeader& header,
                                           uint64_t sender) const {
  const auto it = sessions_.find(SessionToken{header.token_hi, header.token_lo});
  if (it == sessions_.end()) return nullptr;
  const SessionPtr& session = it->second;
  const bool is_its_voice =
      session->state == LaneSession::State::kBound && session->sender == sender;
  return is_its_voice ? session : nullptr;
}

void LaneImpl::OnHello(IncomingMessage message, const ParsedRequest& request, absl::Time now) {
  const auto it = sessions_.find(SessionToken{request.header.token_hi, request.header.token_lo});
  if (it == sessions_.end()) {
    return Refuse(message, wire::Opcode::kHello, request.header.request_id,
                  absl::UnauthenticatedError("no session has this token: open one over gRPC"), now);
  }
  const SessionPtr session = it->second;
  if (absl::Status s = Bind(session, message.sender(), now); !s.ok()) {
    return Refuse(message, wire::Opcode::kHello, request.header.request_id, s, now);
  }
  BuildHelloReply(ReplyTo(request.header.request_id),
                  {.generation = ToInt(options_.generation), .lane = options_.index}, &scratch_);
  SendNote(session, wire::kReplyAm, wire::Code::kOk);
}

absl::Status LaneImpl::Bind(const SessionPtr& session, uint64_t sender, absl::Time now) {
  if (sender == 0) return absl::UnauthenticatedError("the transport does not say who is calling");
  if (session->sender == sender) {  // said twice
    Heard(*session, now);
    return absl::OkStatus();
  }
  // A client that reconnects says HELLO again from another sender: its latest voice counts. UCX
  // pairs endpoints by number, so only one made here, inside HELLO's handler, belongs to the new
  // connection; the one before would be closed under us with the client's own.
  Unbind(session);
  const SessionToken token = session->grant.token;
  auto endpoint = worker_->Connect(
      session->grant.worker_address,
      [this, token](const absl::Status& status) { OnConnectionFailed(token, status); });
  if (!endpoint.ok()) {
    LogWarn("cannot connect to a client's worker",
            {{"client", session->grant.client_name},
             {"lane", options_.index},
             {"reason", std::string(endpoint.status().message())}});
    return endpoint.status();
  }
  session->endpoint = *std::move(endpoint);
  session->liveness = Liveness(LivenessRules(), now);
  session->sender = sender;
  by_sender_[sender] = session;
  session->state = LaneSession::State::kBound;
  std::string transports = session->endpoint->Transports();
  // A client closes its connection to get back what it lends to requests that were refused: under
  // load at a node that refuses, over and over.
  LogEvent(session->was_bound ? LogSeverity::kDebug : LogSeverity::kInfo, "session connected",
           {{"client", session->grant.client_name},
            {"lane", options_.index},
            {"transports", transports}});
  session->was_bound = true;
  const std::lock_guard<std::mutex> lock(transports_mutex_);
  transports_ = std::move(transports);
  return absl::OkStatus();
}

size_t LaneImpl::Unbind(const SessionPtr& session) {
  const auto bound = by_sender_.find(session->sender);
  if (bound != by_sender_.end() && bound->second == session) {
    by_sender_.erase(bound);
    for (const auto& [token, other] : sessions_) {
      if (other != session && other->sender == session->sender && session->sender != 0) {
        by_sender_.emplace(session->sender, other);
        break;
      }
    }
  }
  session->sender = 0;
  session->state = LaneSession::State::kAdded;
  const std::vector<uint64_t> serials(session->requests.begin(), session->requests.end());
  for (const uint64_t serial : serials) {
    LaneRequest& request = *requests_.find(serial)->second;
    request.dropped = true;
    // What only waits in the queue goes at once; what is being written to goes when that is over.
    if (request.stage == LaneRequest::Stage::kComputing && engine_ != nullptr &&
        engine_->Cancel(serial)) {
      Forget(request);
    }
  }
  // Sends in flight come back as failed in a later turn.
  session->endpoint.reset();
  return serials.size();
}

void LaneImpl::OnConnectionFailed(const SessionToken& token, const absl::Status& status) {
  const auto it = sessions_.find(token);
  if (it == sessions_.end()) return;
  stats_.peer_failures.Add();
  LoseSession(it->second, status);
}

void LaneImpl::LoseSession(SessionPtr session, const absl::Status& status) {
  const size_t dropped = EndSession(session);
  if (!on_session_lost_) return;
  on_session_lost_(
      session->grant.token,
      absl::Status(status.code(), absl::StrCat(std::string(status.message()), ", with ", dropped,
                                               " requests in flight on lane ", options_.index)));
}

size_t LaneImpl::EndSession(const SessionPtr& session) {
  if (session->state == LaneSession::State::kEnded) return 0;
  sessions_.erase(session->grant.token);
  const size_t dropped = Unbind(session);
  session->state = LaneSession::State::kEnded;
  TellDropped(store_->EndSession(session->grant.token, SteadyNow()));
  return dropped;
}

}  // namespace latentd
