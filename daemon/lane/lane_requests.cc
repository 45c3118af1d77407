// Messages come in: bytes -> checked request -> admitted request -> its handler. What fails a check
// is answered here with a typed error.
#include <cstring>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "daemon/membership/serving_fence.h"
#include "daemon/process/log.h"
#include "routing/layout_rope.h"
#include "transport/errors.h"

namespace latentd {
namespace {

using wire::Opcode;

// When to try a node again that is draining or not ready: others should have answered before.
constexpr absl::Duration kUnavailableRetry = absl::Seconds(1);

ChunkId IdOf(uint64_t hi, uint64_t lo) { return {.hi = hi, .lo = lo}; }

// Control and measurement: they speak of no chunk.
bool IsPlain(Opcode opcode) { return opcode == Opcode::kPing || opcode == Opcode::kEcho; }

}  // namespace

void LaneImpl::OnRequest(IncomingMessage message) {
  if (worker_ == nullptr) return;  // it is being destroyed
  const absl::Time now = SteadyNow();
  stats_.bytes_received.Add(message.header().size() + message.payload_bytes());
  MessageOrigin origin;
  auto parsed = ParseRequest(message.header(), message.payload_bytes(), wire_limits_, &origin);
  if (!parsed.ok()) return OnUnreadable(std::move(message), origin, parsed.status(), now);
  stats_.requests[parsed->header.opcode].Add();
  if (parsed->opcode() == Opcode::kHello) return OnHello(std::move(message), *parsed, now);

  const SessionPtr session = FindSession(parsed->header, message.sender());
  if (session == nullptr) {
    return Refuse(message, parsed->opcode(), parsed->header.request_id,
                  absl::UnauthenticatedError("no session with this token has said HELLO here"),
                  now);
  }
  Heard(*session, now);
  if (parsed->opcode() == Opcode::kPing) {
    // Never queued, never refused: it asks whether this lane lives.
    BuildPlainReply(Opcode::kPing, ReplyTo(parsed->header.request_id), &scratch_);
    return SendNote(session, wire::kReplyAm, wire::Code::kOk);
  }
  if (absl::Status s = Check(*parsed); !s.ok()) {
    if (absl::IsDeadlineExceeded(s)) stats_.deadline_dropped.Add();
    return SendError(session, parsed->opcode(), parsed->header.request_id, s);
  }
  Accept(session, *std::move(parsed), std::move(message), now);
}

void LaneImpl::OnUnreadable(IncomingMessage message, const MessageOrigin& origin,
                            const absl::Status& why, absl::Time now) {
  // Bounds and layouts are a matter of agreement; the rest is a broken or a newer peer.
  const bool malformed = absl::IsInvalidArgument(why) || absl::IsUnimplemented(why);
  if (malformed) stats_.malformed_messages.Add();
  const auto it = by_sender_.find(message.sender());
  if (malformed && log_gate_.Open(now)) {
    LogWarn("message cannot be read",
            {{"client", it == by_sender_.end() ? "" : it->second->grant.client_name},
             {"lane", options_.index},
             {"reason", std::string(why.message())},
             {"held_back", log_gate_.TakeHeldBack()}});
  }
  if (!origin.request_id.has_value()) return;  // nobody to answer
  const auto opcode = static_cast<Opcode>(origin.opcode);
  if (it == by_sender_.end()) return Refuse(message, opcode, *origin.request_id, why, now);
  Heard(*it->second, now);
  SendError(it->second, opcode, *origin.request_id, why);
}

absl::Status LaneImpl::Check(const ParsedRequest& request) const {
  if (request.header.deadline_us == 0) {
    return absl::DeadlineExceededError("the deadline had passed when the request was sent");
  }
  if (absl::Status s = CheckState(request); !s.ok()) return s;
  if (!IsPlain(request.opcode()) && request.opcode() != Opcode::kRelease) {
    if (absl::Status s = CheckTable(request); !s.ok()) return s;
    if (absl::Status s = CheckSlots(request); !s.ok()) return s;
  }
  if (absl::Status s = CheckShifts(request); !s.ok()) return s;
  return CheckSize(request);
}

absl::Status LaneImpl::CheckState(const ParsedRequest& request) const {
  // What a primary passes on is not new: its slot has not left this node yet.
  const bool is_new_work = request.opcode() == Opcode::kAttend ||
                           (request.opcode() == Opcode::kPublish && !request.replica());
  if (!device_status_.ok() && !IsPlain(request.opcode())) return device_status_;
  if (!IsPlain(request.opcode())) {
    if (absl::Status s = CheckFence(); !s.ok()) return s;
  }
  if (stopping_) {
    return WithRetryAfter(absl::UnavailableError(absl::StrCat("node ", options_.node_id,
                                                              " is stopping: ask another holder")),
                          kUnavailableRetry);
  }
  if (is_new_work && !admitting_) {
    return WithRetryAfter(absl::UnavailableError(absl::StrCat("node ", options_.node_id,
                                                              " is draining: ask another holder")),
                          kUnavailableRetry);
  }
  return absl::OkStatus();
}

absl::Status LaneImpl::CheckFence() const {
  if (options_.fence == nullptr || !options_.fence->closed()) return absl::OkStatus();
  return WithRetryAfter(
      absl::UnavailableError(
          absl::StrCat("node ", options_.node_id, " ", FenceReasonText(options_.fence->reason()))),
      kUnavailableRetry);
}

absl::Status LaneImpl::Judge(const absl::Status& status) {
  if (!absl::IsInternal(status)) return status;
  if (device_status_.ok()) {
    device_status_ = absl::UnavailableError(
        absl::StrCat("node ", options_.node_id, " has lost ", options_.device,
                     " and the chunks there: ask another holder (", status.message(), ")"));
    LogError("device failed: nothing more is answered from it",
             {{"lane", options_.index},
              {"device", options_.device},
              {"reason", std::string(status.message())}});
    if (on_device_lost_) on_device_lost_(status);
  }
  return device_status_;
}

absl::Status LaneImpl::CheckTable(const ParsedRequest& request) const {
  const wire::RequestHeader& header = request.header;
  if (slots_ == nullptr) {
    return WithRetryAfter(absl::UnavailableError(
                              absl::StrCat("node ", options_.node_id, " has no routing table yet")),
                          kUnavailableRetry);
  }
  // What an older table makes of it is a matter of the slots. Between daemons the epoch is none at
  // all: they name the one since which the slot has been where it is.
  const uint64_t epoch = ToInt(slots_->epoch());
  if (header.epoch > epoch && !request.replica() && request.opcode() != Opcode::kList) {
    return WrongEpochError(absl::StrCat("the request is of epoch ", header.epoch, ", node ",
                                        options_.node_id, " of epoch ", epoch));
  }
  const uint64_t generation = ToInt(options_.generation);
  if (header.generation != 0 && header.generation != generation) {
    return WrongGenerationError(
        absl::StrCat("the request means generation ", absl::Hex(header.generation), " of node ",
                     options_.node_id, ", its memory is of generation ", absl::Hex(generation)));
  }
  return absl::OkStatus();
}

absl::Status LaneImpl::CheckSlots(const ParsedRequest& request) const {
  const Epoch epoch{request.header.epoch}, placed{request.header.placed};
  const auto check_write = [&](const auto& body) {
    const ChunkId id = IdOf(body.chunk_hi, body.chunk_lo);
    return request.replica() ? slots_->CheckReplica(id.slot(), placed)
                             : slots_->CheckWrite(id, epoch);
  };
  const auto check_reads = [&](const auto& entries) {
    for (const auto& entry : entries) {
      const ChunkId id = IdOf(entry.chunk_hi, entry.chunk_lo);
      absl::Status s = slots_->CheckRead(id, epoch);
      if (!s.ok() && !AnswersBehind(id.slot(), epoch)) return s;
    }
    return absl::OkStatus();
  };
  if (const auto* attend = std::get_if<AttendRequest>(&request.body)) {
    return check_reads(attend->chunks);
  }
  if (const auto* publish = std::get_if<PublishRequest>(&request.body)) {
    return check_write(publish->range);
  }
  if (const auto* seal = std::get_if<SealRequest>(&request.body)) return check_write(seal->seal);
  if (const auto* drop = std::get_if<DropRequest>(&request.body)) return check_write(drop->chunk);
  if (const auto* fetch = std::get_if<FetchRequest>(&request.body)) {
    return check_reads(std::span(&fetch->range, 1));
  }
  if (const auto* pin = std::get_if<PinRequest>(&request.body)) return check_reads(pin->ids);
  if (const auto* stat = std::get_if<StatRequest>(&request.body)) return check_reads(stat->ids);
  if (const auto* list = std::get_if<ListRequest>(&request.body)) {
    return slots_->CheckList(static_cast<Slot>(list->list.slot), Epoch{list->list.placed});
  }
  return absl::OkStatus();
}

absl::Status LaneImpl::CheckShifts(const ParsedRequest& request) const {
  const auto* attend = std::get_if<AttendRequest>(&request.body);
  if (attend == nullptr || !attend->shifted) return absl::OkStatus();
  const RopeSpec rope = RopeOf(options_.layout);
  for (const wire::GroupEntry& group : attend->groups) {
    if (group.position_shift == 0) continue;
    const absl::Status s = CheckShift(rope, group.position_shift);
    if (s.ok()) continue;
    const std::string text = absl::StrCat("layout ", options_.layout.model, ": ", s.message());
    if (absl::IsOutOfRange(s)) return absl::OutOfRangeError(text);
    // Whatever else is wrong is wrong with the layout.
    return absl::FailedPreconditionError(text);
  }
  return absl::OkStatus();
}

absl::Status LaneImpl::CheckSize(const ParsedRequest& request) const {
  const LaneLimits& limits = options_.limits;
  if (const auto* attend = std::get_if<AttendRequest>(&request.body)) {
    const uint64_t rows = uint64_t{attend->attend.tokens} * attend->attend.heads;
    if (rows > limits.rows_per_request) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "a request of ", rows, " rows; the limit is ", limits.rows_per_request, " a request"));
    }
    const uint64_t work = AttendWork(*attend);
    if (work > limits.work_per_request) {
      return absl::ResourceExhaustedError(
          absl::StrCat("a request of ", work, " rows times tokens; the limit is ",
                       limits.work_per_request, " a request: ask for fewer rows at a time"));
    }
  }
  if (request.opcode() == Opcode::kPublish &&
      request.header.payload_bytes > limits.publish_bytes_per_request) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a publish of ", request.header.payload_bytes, " payload bytes; the limit is ",
                     limits.publish_bytes_per_request, " a request: publish less at a time"));
  }
  const uint64_t reply_bytes = ReplyPayloadBytes(request, wire_limits_);
  if (reply_bytes > limits.payload_bytes_per_request) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a reply of ", reply_bytes, " payload bytes; the limit is ",
                     limits.payload_bytes_per_request, " a request: ask for less at a time"));
  }
  return absl::OkStatus();
}

void LaneImpl::Accept(const SessionPtr& session, ParsedRequest parsed, IncomingMessage message,
                      absl::Time now) {
  const uint64_t bytes = message.payload_bytes() + ReplyPayloadBytes(parsed, wire_limits_);
  if (absl::Status s = admission_.Admit(session->in_flight, bytes); !s.ok()) {
    return SendError(session, parsed.opcode(), parsed.header.request_id, s);
  }
  std::unique_ptr<LaneRequest> owned;
  if (spare_requests_.empty()) {
    owned = std::make_unique<LaneRequest>();
  } else {
    owned = std::move(spare_requests_.back());
    spare_requests_.pop_back();
  }
  LaneRequest& request = *owned;
  request.serial = next_serial_++;
  request.session = session;
  request.parsed = std::move(parsed);
  request.arrival = now;
  request.deadline = now + absl::Microseconds(request.parsed.header.deadline_us);
  request.admitted_bytes = bytes;
  request.message = std::move(message);
  session->requests.insert(request.serial);
  session->liveness.OnSent(now);
  requests_.emplace(request.serial, std::move(owned));

  const uint64_t payload_bytes = request.message.payload_bytes();
  if (payload_bytes == 0) return Dispatch(request);
  if (request.message.is_eager()) {
    request.payload = request.message.eager_payload();
    return Dispatch(request);
  }
  request.received = TakeBuffer(request, payload_bytes);
  if (request.received.empty()) {
    return Finish(request, absl::ResourceExhaustedError(absl::StrCat("no memory for a payload of ",
                                                                     payload_bytes, " bytes")));
  }
  request.payload = request.received.bytes();
  request.message.ReceiveInto(
      request.received.data(),
      [this, serial = request.serial](const absl::Status& s) { OnReceived(serial, s); });
}

void LaneImpl::OnReceived(uint64_t serial, const absl::Status& status) {
  const auto it = requests_.find(serial);
  if (it == requests_.end()) return;
  LaneRequest& request = *it->second;
  if (request.dropped) return Forget(request);
  if (!status.ok()) return Finish(request, status);
  Moved(*request.session);
  // A table may have come meanwhile. What is published to one that is not its slot's primary any
  // more would be acknowledged by a node that others do not ask.
  if (request.parsed.opcode() == Opcode::kPublish) {
    if (absl::Status s = CheckSlots(request.parsed); !s.ok()) return Finish(request, s);
  }
  Dispatch(request);
}

void LaneImpl::Dispatch(LaneRequest& request) {
  if (engine_ == nullptr) {  // a payload that came after the cut
    return Finish(request, absl::UnavailableError("the node is stopping: ask another holder"));
  }
  if (!device_status_.ok() && !IsPlain(request.parsed.opcode())) {
    return Finish(request, device_status_);
  }
  if (request.deadline <= SteadyNow()) {
    stats_.deadline_dropped.Add();
    return Finish(request,
                  absl::DeadlineExceededError("the deadline passed while the payload came"));
  }
  switch (request.parsed.opcode()) {
    case Opcode::kPublish:
      return Publish(request);
    case Opcode::kSeal:
      return Seal(request);
    case Opcode::kAttend:
      return Attend(request);
    case Opcode::kFetch:
      return Fetch(request);
    case Opcode::kPin:
      return Pin(request);
    case Opcode::kRelease:
      return Release(request);
    case Opcode::kStat:
      return Stat(request);
    case Opcode::kEcho:
      return Echo(request);
    case Opcode::kList:
      return List(request);
    case Opcode::kDrop:
      return Drop(request);
    case Opcode::kHello:
    case Opcode::kPing:
      break;  // answered without admission
  }
  Finish(request, absl::InternalError(
                      absl::StrCat("opcode ", request.parsed.header.opcode, " has no handler")));
}

}  // namespace latentd
