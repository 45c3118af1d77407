// DataPath: what arrives, and how exchanges end.
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/data_path.h"
#include "transport/errors.h"
#include "transport/record_checksum.h"
#include "transport/wire_build.h"

namespace latentd {
namespace {

// Records that changed on the way are as good as lost there: another holder may have them.
void VerifyPayload(const Exchange& exchange, ExchangeResult* result) {
  const wire::ReplyHeader& header = result->header;
  if ((header.flags & wire::kReplyChecksum) == 0) return;
  if (PayloadChecksum(result->payload.bytes()) == header.payload_checksum) return;
  result->status = absl::DataLossError(
      absl::StrCat("node ", exchange.link->node, ": the ", header.payload_bytes,
                   " bytes that it answered came with another checksum than they were sent with"));
}

bool AwaitsAnswer(ExchangeState state) {
  return state == ExchangeState::kSending || state == ExchangeState::kSent;
}

// Partials are read as floats where they lie.
bool IsAligned(std::span<const std::byte> bytes) {
  return reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) == 0;
}

}  // namespace

void DataPath::OnReply(IncomingMessage message) {
  MessageOrigin origin;
  absl::StatusOr<ParsedReply> reply =
      ParseReply(message.header(), message.payload_bytes(), options_.wire, &origin);
  if (!origin.request_id.has_value()) return;  // not ours to understand
  Exchange* const found = FindAttempt(*origin.request_id, message.sender());
  if (found == nullptr) {
    ++counters_.late_answers;
    if (LaneLink* link = FindBySender(message.sender()); link != nullptr)
      link->liveness.OnHeard(SteadyTime(SteadyNanos()));
    return;
  }
  Exchange& exchange = *found;
  LaneLink& link = *exchange.link;
  // Only HELLO's answer introduces the sender: its id was never used before, so nothing late can be
  // taken for it.
  if (exchange.out.opcode == wire::Opcode::kHello) link.sender = message.sender();
  link.liveness.OnHeard(SteadyTime(SteadyNanos()));
  if (!reply.ok()) {
    Fail(exchange, absl::InternalError(
                       absl::StrCat("an answer of node ", link.node,
                                    " cannot be read: ", std::string(reply.status().message()))));
    return;
  }
  ExchangeResult result;
  result.header = reply->header;
  result.bytes_received = message.header().size();
  result.status = reply->status();
  if (!result.status.ok()) {
    Complete(exchange, std::move(result));
    return;
  }
  if (absl::Status status = CheckReply(exchange, *reply); !status.ok()) {
    Fail(exchange, std::move(status));
    return;
  }
  result.body = std::move(reply->body);
  TakePayload(exchange, std::move(result), std::move(message));
}

Exchange* DataPath::FindAttempt(uint64_t request_id, uint64_t sender) const {
  Exchange* found = nullptr;
  for (Exchange* attempt : exchanges_.Attempts(request_id)) {
    if (!AwaitsAnswer(attempt->state)) continue;
    const uint64_t asked = attempt->link->sender;
    if (asked != 0 && sender != 0 && asked != sender) continue;
    // Of two that it may be, it is neither.
    if (found != nullptr) return nullptr;
    found = attempt;
  }
  return found;
}

absl::Status DataPath::CheckReply(const Exchange& exchange, const ParsedReply& reply) const {
  const absl::StatusOr<ParsedRequest> asked =
      ParseRequest(exchange.out.header, exchange.out.payload.size(), own_wire_);
  const absl::Status status = asked.ok() ? CheckAnswers(reply, *asked, own_wire_) : asked.status();
  if (status.ok()) return status;
  return absl::InternalError(
      absl::StrCat("an answer of node ", exchange.link->node,
                   " is not one to the request: ", std::string(status.message())));
}

void DataPath::TakePayload(Exchange& exchange, ExchangeResult result, IncomingMessage message) {
  const uint64_t bytes = message.payload_bytes();
  result.bytes_received += bytes;
  if (bytes == 0) {
    Complete(exchange, std::move(result));
    return;
  }
  const bool on_device = exchange.out.on_device;
  if (!on_device && !message.eager_payload().empty() && IsAligned(message.eager_payload())) {
    result.payload = ReplyPayload(std::move(message));
    VerifyPayload(exchange, &result);
    Complete(exchange, std::move(result));
    return;
  }
  struct Receiving {
    std::shared_ptr<PayloadPool> pool;  // outlives the buffer
    IncomingMessage message;
    PayloadBuffer buffer;
    ExchangeResult result;
  };
  PayloadBuffer buffer = (on_device ? options_.device_pool : pool_.get())->Take(bytes);
  if (buffer.empty()) {
    Fail(exchange,
         absl::ResourceExhaustedError(absl::StrCat("no memory for the ", bytes, " bytes that node ",
                                                   exchange.link->node, " answers")));
    return;
  }
  exchanges_.AnswerBegins(exchange);
  auto receiving = std::make_shared<Receiving>(
      Receiving{pool_, std::move(message), std::move(buffer), std::move(result)});
  const std::weak_ptr<int> alive = alive_;
  receiving->message.ReceiveInto(
      receiving->buffer.data(), [this, alive, receiving, id = exchange.id](absl::Status status) {
        if (alive.expired()) return;
        Exchange* waiting = exchanges_.Find(id);
        if (waiting == nullptr) return;
        if (!status.ok()) {
          Fail(*waiting, absl::UnavailableError(absl::StrCat(
                             "node ", waiting->link->node,
                             ": its answer was cut off: ", std::string(status.message()))));
          return;
        }
        receiving->result.payload = ReplyPayload(std::move(receiving->buffer));
        VerifyPayload(*waiting, &receiving->result);
        Complete(*waiting, std::move(receiving->result));
      });
}

void DataPath::Fail(Exchange& exchange, absl::Status status) {
  ExchangeResult result;
  result.status = std::move(status);
  Complete(exchange, std::move(result));
}

void DataPath::Complete(Exchange& exchange, ExchangeResult result) {
  const std::shared_ptr<LaneLink> link = exchange.link;
  result.id = exchange.id;
  result.request_id = exchange.request_id;
  result.opcode = exchange.out.opcode;
  result.internal = exchange.internal;
  result.node = link->node;
  result.lane = link->lane;
  result.token = link->token;
  result.sent_epoch = exchange.epoch;
  result.rows = exchange.out.rows;
  if (IsInFlight(exchange.state)) {
    const uint64_t now_ns = SteadyNanos();
    result.rtt_ns = now_ns - exchange.sent_ns;
    result.bytes_sent = exchange.out.header.size() + exchange.out.payload.size();
    if (exchange.out.opcode != wire::Opcode::kPing) link->liveness.OnSettled(SteadyTime(now_ns));
    if (!exchange.internal) {
      link->window.Give(exchange.window_bytes());
      if (!link->waiting.empty()) to_pump_.push_back(link);
    }
  }
  Report(exchanges_.Ends(exchange, std::move(result)), link);
}

void DataPath::Report(ExchangeTable::Moved moved, const std::shared_ptr<LaneLink>& link) {
  if (!moved.report.has_value()) return;
  if (!moved.report->internal) {
    results_.push_back(*std::move(moved.report));
  } else if (moved.report->opcode == wire::Opcode::kHello) {
    Greeted(*link, *moved.report);
  }
}

void DataPath::Greeted(LaneLink& link, const ExchangeResult& result) {
  if (link.state != LaneLink::State::kGreeting) return;
  if (!result.status.ok()) {
    FailLink(link, absl::Status(result.status.code(),
                                absl::StrCat("node ", link.node, " lane ", link.lane, ": ",
                                             std::string(result.status.message()))));
    return;
  }
  link.state = LaneLink::State::kBound;
  link.recovering = false;
  for (const auto& known : nodes_.at(link.node).links) {
    if (known.get() == &link) to_pump_.push_back(known);
  }
}

void DataPath::OnRequest(const IncomingMessage& message) {
  WireLimits limits = options_.wire;
  limits.layout_hash = 0;
  const absl::StatusOr<ParsedRequest> request =
      ParseRequest(message.header(), message.payload_bytes(), limits);
  if (!request.ok() || request->opcode() != wire::Opcode::kPing) return;
  LaneLink* link = FindBySender(message.sender());
  if (link == nullptr || link->endpoint == nullptr) return;
  link->liveness.OnHeard(SteadyTime(SteadyNanos()));
  MessageBytes bytes;
  BuildPlainReply(wire::Opcode::kPing, {.request_id = request->header.request_id}, &bytes);
  link->endpoint->Send(wire::kReplyAm, bytes, {}, [](absl::Status) {});
  ++counters_.pings_answered;
}

}  // namespace latentd
