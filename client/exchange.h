// One request to one lane and its one answer, as the data path handles them. Data thread only.
#ifndef LATENTD_CLIENT_EXCHANGE_H_
#define LATENTD_CLIENT_EXCHANGE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "client/clock.h"
#include "client/exchange_state.h"
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
  bool on_device = false;            // payload and answer lie in the client's device's memory
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
  uint64_t id = 0;          // what Submit returned
  uint64_t request_id = 0;  // as the wire has it
  wire::Opcode opcode = wire::Opcode::kPing;
  bool internal = false;
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

// See exchange_state.h for its life, exchange_table.h for who keeps it.
struct Exchange {
  uint64_t id = 0;          // never used again
  uint64_t request_id = 0;  // on the wire: that of the first attempt
  ExchangeState state = ExchangeState::kWaiting;
  Outgoing out;
  std::shared_ptr<LaneLink> link;
  uint64_t deadline_ns = kNever;
  Epoch epoch{};
  bool internal = false;  // HELLO and PING, of the link itself: not counted by the window
  uint64_t sent_ns = 0;
  ExchangeResult result;  // while it is held back

  uint64_t window_bytes() const { return out.payload.size() + out.reply_payload_bytes; }
  // The payload lies in the caller's memory.
  bool lends() const { return !out.payload.empty() && out.owned.empty(); }
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_EXCHANGE_H_
