// One request to one lane and its one answer, as the data path handles them. Data thread only.
#ifndef LATENTD_CLIENT_EXCHANGE_H_
#define LATENTD_CLIENT_EXCHANGE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "client/clock.h"
#include "client/session_info.h"
#include "routing/ids.h"
#include "transport/payload_pool.h"
#include "transport/wire.h"
#include "transport/wire_build.h"
#include "transport/wire_parse.h"
#include "transport/worker.h"

namespace latentd {

class LaneLink;

// A request that is ready but for what belongs to the moment of sending: id, token, epoch,
// deadline.
struct Outgoing {
  wire::Opcode opcode = wire::Opcode::kPing;
  MessageBytes header;                 // as wire_build.h makes it
  std::span<const std::byte> payload;  // in `owned`, or in the caller's memory
  PayloadBuffer owned;
  uint64_t reply_payload_bytes = 0;  // of an OK reply, exactly
  uint64_t rows = 0;                 // for the report
};

// A reply's payload, where it came to lie.
class ReplyPayload {
 public:
  ReplyPayload() = default;
  explicit ReplyPayload(IncomingMessage eager) : message_(std::move(eager)) {}
  explicit ReplyPayload(PayloadBuffer received) : buffer_(std::move(received)) {}

  std::span<const std::byte> bytes() const {
    return buffer_.empty() ? message_.eager_payload() : std::as_const(buffer_).bytes();
  }

 private:
  IncomingMessage message_;
  PayloadBuffer buffer_;
};

struct ExchangeResult {
  uint64_t id = 0;
  absl::Status status;
  wire::ReplyHeader header{};        // zero where no reply came
  decltype(ParsedReply::body) body;  // of an OK reply
  ReplyPayload payload;
  NodeId node;
  uint32_t lane = 0;
  TokenBits token;  // of the session it was sent in
  Epoch sent_epoch{};
  uint64_t rows = 0;
  uint64_t rtt_ns = 0;
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
};

// States: waiting (in its link's queue) -> sent -> has a result -> reported, and gone once UCX no
// longer reads the payload. A result that comes while UCX still reads the caller's memory is kept
// back until it does not.
struct Exchange {
  uint64_t id = 0;
  uint64_t serial = 0;  // never reused, unlike the id of a request that is tried again
  Outgoing out;
  std::shared_ptr<LaneLink> link;
  uint64_t deadline_ns = kNever;
  Epoch epoch{};
  bool internal = false;  // HELLO and PING, of the link itself
  bool sending = false;
  bool receiving = false;
  bool in_window = false;
  bool awaited = false;  // sent, and its answer is still to come
  uint64_t sent_ns = 0;
  std::optional<ExchangeResult> result;
  bool reported = false;

  uint64_t window_bytes() const { return out.payload.size() + out.reply_payload_bytes; }
  bool reads_caller_memory() const { return sending && !out.payload.empty() && out.owned.empty(); }
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_EXCHANGE_H_
