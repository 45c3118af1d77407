#include "tests/cluster/raw_requester.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace latentd::testing {
namespace {

// Replies that nobody waits for are kept up to here.
constexpr size_t kKeptReplies = 4096;

template <typename T>
T ValueOrThrow(absl::StatusOr<T> value, const char* what) {
  if (!value.ok()) throw std::runtime_error(absl::StrCat(what, ": ", value.status().ToString()));
  return *std::move(value);
}

}  // namespace

RawRequester::RawRequester(const std::string& endpoint, const RawOptions& options)
    : options_(options), control_(endpoint) {
  ContextOptions context_options;
  if (!options.transports.empty()) context_options.transports = {options.transports};
  context_ = ValueOrThrow(Context::Create(context_options), "UCX context");
  worker_ = ValueOrThrow(Worker::Create(context_), "UCX worker");
  worker_->SetHandler(wire::kReplyAm, [this](IncomingMessage m) { OnReply(std::move(m)); });
  worker_->SetHandler(wire::kRequestAm, [this](IncomingMessage m) { OnRequest(std::move(m)); });
  const absl::Status opened = Open();
  if (!opened.ok()) throw std::runtime_error(absl::StrCat("session: ", opened.ToString()));
}

absl::Status RawRequester::Open() {
  v1::OpenRequest request;
  request.set_client_name(options_.name);
  request.set_worker_address(worker_->address());
  request.set_protocol_version(wire::kVersion);
  auto session = control_.Open(request);
  if (!session.ok()) return session.status();
  session_ = *std::move(session);
  const std::string& lane = session_.lanes(options_.lane).worker_address();
  auto endpoint = worker_->Connect(lane, [](const absl::Status&) {});
  if (!endpoint.ok()) return endpoint.status();
  endpoint_ = *std::move(endpoint);
  refused_ = false;
  return options_.hello ? Hello() : absl::OkStatus();
}

RawRequester::~RawRequester() {
  (void)control_.Close(session_.token_hi(), session_.token_lo());
  endpoint_.reset();
  for (int i = 0; i < 100; ++i) worker_->Progress();
}

wire::RequestHeader RawRequester::Header() {
  wire::RequestHeader header{};
  header.request_id = next_id_++;
  header.token_hi = session_.token_hi();
  header.token_lo = session_.token_lo();
  header.epoch = session_.table().epoch();
  header.generation = session_.generation();
  header.layout_hash = session_.layout().hash();
  header.deadline_us = 2'000'000;
  return header;
}

absl::Status RawRequester::Hello() {
  wire::RequestHeader header = Header();
  MessageBytes message;
  BuildHello(header, &message);
  const auto reply = Call(message, header.request_id);
  if (!reply.ok()) return reply.status();
  if (reply->code() != wire::Code::kOk) return absl::UnauthenticatedError(reply->text());
  return absl::OkStatus();
}

absl::Status RawRequester::Reconnect() {
  endpoint_.reset();
  (void)control_.Close(session_.token_hi(), session_.token_lo());
  return Open();
}

void RawRequester::Post(std::span<const std::byte> message, std::span<const std::byte> payload,
                        unsigned am_id) {
  ++posted_;
  // The payload must live until it has left, and callers' buffers need not.
  auto kept = std::make_shared<std::vector<std::byte>>(payload.begin(), payload.end());
  endpoint_->Send(am_id, message, *kept, [this, kept](const absl::Status&) { ++left_; });
}

absl::StatusOr<RawReply> RawRequester::Call(const MessageBytes& message, uint64_t request_id,
                                            std::span<const std::byte> payload,
                                            absl::Duration limit) {
  Post(message, payload);
  return Await(request_id, limit);
}

absl::StatusOr<RawReply> RawRequester::Await(uint64_t request_id, absl::Duration limit) {
  const absl::Time end = absl::Now() + limit;
  while (true) {
    worker_->Progress();
    if (const auto it = replies_.find(request_id); it != replies_.end()) {
      RawReply reply = std::move(it->second);
      replies_.erase(it);
      return reply;
    }
    if (!connection().ok()) return absl::UnavailableError(connection().ToString());
    if (refused_) return absl::UnauthenticatedError("an earlier request was refused");
    if (absl::Now() > end) {
      return absl::DeadlineExceededError(absl::StrCat("no reply to request ", request_id));
    }
  }
}

void RawRequester::Flush(absl::Duration limit) {
  const absl::Time end = absl::Now() + limit;
  while (left_ < posted_ && connection().ok() && absl::Now() < end) worker_->Progress();
  while (worker_->Progress() > 0 && absl::Now() < end) {
  }
}

void RawRequester::OnReply(IncomingMessage message) {
  ++replies_seen_;
  if (message.payload_bytes() == 0 || message.is_eager()) {
    const auto payload = message.eager_payload();
    Keep(message.header(), {payload.begin(), payload.end()});
    return;
  }
  struct Pending {
    IncomingMessage message;
    std::vector<std::byte> payload;
  };
  auto pending = std::make_shared<Pending>();
  pending->payload.resize(message.payload_bytes());
  pending->message = std::move(message);
  pending->message.ReceiveInto(pending->payload.data(), [this, pending](const absl::Status& done) {
    if (done.ok()) Keep(pending->message.header(), std::move(pending->payload));
  });
}

void RawRequester::Keep(std::span<const std::byte> bytes, std::vector<std::byte> payload) {
  RawReply reply;
  if (bytes.size() < sizeof(reply.header)) return;
  std::memcpy(&reply.header, bytes.data(), sizeof(reply.header));
  const auto meta = bytes.subspan(std::min<size_t>(bytes.size(), reply.header.header_bytes));
  reply.meta.assign(meta.begin(), meta.end());
  reply.payload = std::move(payload);
  if (reply.code() != wire::Code::kOk) ++errors_seen_;
  if (reply.code() == wire::Code::kUnauthenticated) refused_ = true;
  if (replies_.size() < kKeptReplies) replies_.emplace(reply.header.request_id, std::move(reply));
}

// A daemon asks silent peers whether they are alive.
void RawRequester::OnRequest(IncomingMessage message) {
  wire::RequestHeader request{};
  if (message.header().size() < sizeof(request)) return;
  std::memcpy(&request, message.header().data(), sizeof(request));
  if (request.opcode != static_cast<uint16_t>(wire::Opcode::kPing)) return;
  wire::ReplyHeader reply{};
  reply.request_id = request.request_id;
  MessageBytes bytes;
  BuildPlainReply(wire::Opcode::kPing, reply, &bytes);
  Post(bytes, {}, wire::kReplyAm);
}

}  // namespace latentd::testing
