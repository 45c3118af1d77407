// The checked way in: bytes of an active message -> a request or a reply whose every size, count
// and flag holds.
//
// Nothing that comes out points into the message: the bytes may be unaligned and may go away. Pure;
// any thread. A parse that fails says which field, what it got and what it expected, and still
// names the request where the fixed header was readable, so that a typed error can be sent back.
#ifndef LATENTD_TRANSPORT_WIRE_PARSE_H_
#define LATENTD_TRANSPORT_WIRE_PARSE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/mla.h"
#include "transport/wire.h"

namespace latentd {

// What a receiver accepts. The layout part must be the receiver's own; the bounds are its
// configuration.
struct WireLimits {
  Geometry geometry;
  RecordFormat format = RecordFormat::kBf16;
  uint32_t layers = UINT32_MAX;  // of the layout
  uint64_t layout_hash = 0;      // 0 = any layout is let through

  uint32_t max_query_tokens = 16384;  // of one ATTEND
  uint32_t max_groups = 4096;
  uint32_t max_chunks = 16384;  // of one ATTEND, and ids of one PIN, RELEASE or STAT
  uint64_t max_payload_bytes = uint64_t{1} << 30;
  uint64_t max_echo_bytes = uint64_t{64} << 20;
};

struct HelloRequest {};
struct PublishRequest {
  wire::RangeBody range;
};
struct SealRequest {
  wire::SealBody seal;
};
// Groups tile [0, attend.tokens) in order, and their chunk ranges lie inside `chunks`.
struct AttendRequest {
  wire::AttendBody attend;
  absl::InlinedVector<wire::GroupEntry, 4> groups;
  absl::InlinedVector<wire::ChunkEntry, 16> chunks;

  bool out_fp32 = false;
  bool best_effort = false;
  bool shifted = false;  // groups may have a position_shift
};
struct FetchRequest {
  wire::RangeBody range;
};
using IdEntries = absl::InlinedVector<wire::IdEntry, 16>;
struct PinRequest {
  uint32_t lease_ms = 0;
  IdEntries ids;
};
struct ReleaseRequest {
  IdEntries ids;
};
struct StatRequest {
  IdEntries ids;
};
struct ListRequest {
  wire::ListBody list;
};
struct DropRequest {
  wire::IdEntry chunk;
};
struct PingRequest {};
struct EchoRequest {
  uint64_t reply_bytes = 0;
};

struct ParsedRequest {
  wire::RequestHeader header;  // newer fields are cut off
  std::variant<HelloRequest, PublishRequest, SealRequest, AttendRequest, FetchRequest, PinRequest,
               ReleaseRequest, StatRequest, PingRequest, EchoRequest, ListRequest, DropRequest>
      body;

  wire::Opcode opcode() const { return static_cast<wire::Opcode>(header.opcode); }
  // From the slot's primary to one that holds or joins it.
  bool replica() const { return (header.flags & wire::kReplica) != 0; }
};

// Whom to answer when parsing failed: set as soon as magic and header size held, whatever failed
// later.
struct MessageOrigin {
  std::optional<uint64_t> request_id;
  uint16_t opcode = 0;
};

// `am_payload_bytes` is what the transport says that it carries. Errors: INVALID_ARGUMENT;
// UNIMPLEMENTED (version, opcode or flag of a newer peer); RESOURCE_EXHAUSTED (beyond a bound);
// LAYOUT_MISMATCH; OUT_OF_RANGE (layers).
absl::StatusOr<ParsedRequest> ParseRequest(std::span<const std::byte> am_header,
                                           uint64_t am_payload_bytes, const WireLimits& limits,
                                           MessageOrigin* origin = nullptr);

struct StatReply {
  absl::InlinedVector<wire::StatEntry, 4> entries;
};
struct ListReply {
  std::vector<wire::StatEntry> entries;
  std::vector<std::vector<uint32_t>> layer_tokens;  // one for each entry: [layers] if it is open
  bool more = false;
};
// What a best-effort ATTEND left out; empty when nothing was.
struct AttendReply {
  absl::InlinedVector<wire::MissingEntry, 4> missing;
};
struct HelloReply {
  wire::HelloReplyBody hello;
};
// PUBLISH, SEAL, FETCH, PIN, RELEASE, DROP, PING, ECHO: nothing but the header and perhaps a payload.
struct PlainReply {};
struct ErrorReply {
  std::string message;
};

struct ParsedReply {
  wire::ReplyHeader header;
  std::variant<PlainReply, HelloReply, AttendReply, StatReply, ListReply, ErrorReply> body;

  wire::Opcode opcode() const { return static_cast<wire::Opcode>(header.opcode); }
  wire::Code code() const { return static_cast<wire::Code>(header.code); }
  // OK, or the holder's error with its retry hint.
  absl::Status status() const;
};

// Checks what a reply says about itself. Whether it is the answer to what was asked is
// CheckAnswers' business.
absl::StatusOr<ParsedReply> ParseReply(std::span<const std::byte> am_header,
                                       uint64_t am_payload_bytes, const WireLimits& limits,
                                       MessageOrigin* origin = nullptr);

// Whether `reply` may stand as the answer to `request`: id and opcode, and for an OK reply its
// payload size.
absl::Status CheckAnswers(const ParsedReply& reply, const ParsedRequest& request,
                          const WireLimits& limits);

// Payload bytes of an OK reply to `request`.
uint64_t ReplyPayloadBytes(const ParsedRequest& request, const WireLimits& limits);

std::string_view OpcodeName(wire::Opcode opcode);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_WIRE_PARSE_H_
