// Answers on their way out. A reply counts as in flight until UCX has taken it all, so that a peer
// that does not read runs into its own limits.
#include <utility>

#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"
#include "transport/errors.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

// Replies to what was not admitted that UCX may have of one session. A peer that sends on without
// reading gets no more: it would make this node's memory its queue.
constexpr uint32_t kMaxUnsentNotes = 1024;

}  // namespace

wire::ReplyHeader LaneImpl::ReplyTo(uint64_t request_id) const {
  wire::ReplyHeader header = {};
  header.request_id = request_id;
  header.epoch = slots_ == nullptr ? 0 : ToInt(slots_->epoch());
  header.lane_rows_queued = static_cast<uint32_t>(engine_ == nullptr ? 0 : engine_->rows_queued());
  return header;
}

void LaneImpl::CountReply(wire::Code code) { stats_.replies_by_code[WireCodeIndex(code)].Add(); }

void LaneImpl::Finish(LaneRequest& request, const absl::Status& status) {
  const wire::RequestHeader& asked = request.parsed.header;
  wire::ReplyHeader header = ReplyTo(asked.request_id);
  if (status.ok()) {
    header.payload_bytes = request.reply_payload.size();
    if (request.parsed.opcode() == wire::Opcode::kFetch) {
      header.flags = wire::kReplyChecksum;
      header.payload_checksum = PayloadChecksum(request.reply_payload);
    }
    BuildPlainReply(request.parsed.opcode(), header, &scratch_);
  } else {
    request.reply_payload = {};
    BuildErrorReply(request.parsed.opcode(), header, status, &scratch_);
  }
  SendReply(request, ToWireCode(status));
}

void LaneImpl::SendReply(LaneRequest& request, wire::Code code) {
  // Chunks need no pin while a reply travels: it has its own bytes.
  Unpin(request);
  const SessionPtr& session = request.session;
  if (request.dropped || session->endpoint == nullptr) return Forget(request);
  // Looked at last of all: what has been computed since may be another node's to answer.
  if (code == wire::Code::kOk && request.parsed.opcode() != wire::Opcode::kEcho) {
    if (const absl::Status fenced = CheckFence(); !fenced.ok()) {
      request.reply_payload = {};
      BuildErrorReply(request.parsed.opcode(), ReplyTo(request.parsed.header.request_id), fenced,
                      &scratch_);
      code = ToWireCode(fenced);
    }
  }
  request.stage = LaneRequest::Stage::kReplying;
  admission_.StartLeaving(session->in_flight, request.admitted_bytes);
  CountReply(code);
  stats_.bytes_sent.Add(scratch_.size() + request.reply_payload.size());
  session->endpoint->Send(wire::kReplyAm, scratch_, request.reply_payload,
                          [this, serial = request.serial](const absl::Status& status) {
                            const auto it = requests_.find(serial);
                            if (it == requests_.end()) return;
                            LaneRequest& sent = *it->second;
                            if (status.ok() && !sent.dropped) Moved(*sent.session);
                            Forget(sent);
                          });
}

void LaneImpl::SendNote(const SessionPtr& session, unsigned am_id, wire::Code code) {
  if (session->endpoint == nullptr || session->unsent_notes >= kMaxUnsentNotes) return;
  if (am_id == wire::kReplyAm) CountReply(code);
  stats_.bytes_sent.Add(scratch_.size());
  ++session->unsent_notes;
  ++unsent_notes_;
  const bool is_owed = am_id == wire::kReplyAm;  // a PING is not
  if (is_owed) session->liveness.OnSent(SteadyNow());
  session->endpoint->Send(am_id, scratch_, {},
                          [this, session, is_owed, sender = session->sender](const absl::Status&) {
                            --session->unsent_notes;
                            --unsent_notes_;
                            if (is_owed && session->sender == sender)
                              session->liveness.OnSettled(SteadyNow());
                          });
}

void LaneImpl::SendError(const SessionPtr& session, wire::Opcode opcode, uint64_t request_id,
                         const absl::Status& status) {
  BuildErrorReply(opcode, ReplyTo(request_id), status, &scratch_);
  SendNote(session, wire::kReplyAm, ToWireCode(status));
}

void LaneImpl::Refuse(const IncomingMessage& message, wire::Opcode opcode, uint64_t request_id,
                      const absl::Status& status, absl::Time now) {
  if (absl::IsUnauthenticated(status)) stats_.unauthenticated.Add();
  CountReply(ToWireCode(status));
  BuildErrorReply(opcode, ReplyTo(request_id), status, &scratch_);
  worker_->ReplyAndClose(message, wire::kReplyAm, scratch_);
  if (log_gate_.Open(now)) {
    LogWarn("peer without a session refused", {{"lane", options_.index},
                                               {"reason", std::string(status.message())},
                                               {"held_back", log_gate_.TakeHeldBack()}});
  }
}

void LaneImpl::Forget(LaneRequest& request) {
  Unpin(request);
  LaneSession& session = *request.session;
  session.requests.erase(request.serial);
  // A dropped one belongs to a connection that is over.
  if (!request.dropped) session.liveness.OnSettled(SteadyNow());
  if (request.stage == LaneRequest::Stage::kReplying) {
    admission_.ReleaseLeaving(session.in_flight, request.admitted_bytes);
  } else {
    admission_.ReleaseWorking(session.in_flight, request.admitted_bytes);
  }
  const auto it = requests_.find(request.serial);
  std::unique_ptr<LaneRequest> owned = std::move(it->second);
  requests_.erase(it);
  owned->Clear();
  spare_requests_.push_back(std::move(owned));
}

}  // namespace latentd
