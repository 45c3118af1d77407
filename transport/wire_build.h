// The way out: headers and bodies -> the bytes of an active-message header.
//
// Builders clear and fill a caller's buffer, which keeps its capacity from message to message. They
// set magic, version, sizes, opcode and counts; every other field is the caller's. Pure; any
// thread.
#ifndef LATENTD_TRANSPORT_WIRE_BUILD_H_
#define LATENTD_TRANSPORT_WIRE_BUILD_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "transport/wire.h"

namespace latentd {

// 512 bytes hold any request but ATTENDs of many chunks.
using MessageBytes = absl::InlinedVector<std::byte, 512>;

// An error's text is cut to this, at a character boundary: replies to errors stay small.
inline constexpr size_t kMaxErrorText = 512;

// Requests. The caller sets flags, request_id, token, epoch, generation, layout_hash, payload_bytes
// and deadline_us.
void BuildHello(const wire::RequestHeader& header, MessageBytes* out);
void BuildPublish(const wire::RequestHeader& header, const wire::RangeBody& range,
                  MessageBytes* out);
void BuildSeal(const wire::RequestHeader& header, const wire::SealBody& seal, MessageBytes* out);
// `body.groups` and `body.chunks` are set from the spans, kShifted if a group is shifted.
void BuildAttend(const wire::RequestHeader& header, wire::AttendBody body,
                 std::span<const wire::GroupEntry> groups, std::span<const wire::ChunkEntry> chunks,
                 MessageBytes* out);
void BuildFetch(const wire::RequestHeader& header, const wire::RangeBody& range, MessageBytes* out);
void BuildPin(const wire::RequestHeader& header, uint32_t lease_ms,
              std::span<const wire::IdEntry> ids, MessageBytes* out);
void BuildRelease(const wire::RequestHeader& header, std::span<const wire::IdEntry> ids,
                  MessageBytes* out);
void BuildStat(const wire::RequestHeader& header, std::span<const wire::IdEntry> ids,
               MessageBytes* out);
void BuildList(const wire::RequestHeader& header, const wire::ListBody& list, MessageBytes* out);
// Sets kReplica, which DROP cannot be without; `placed` is the caller's.
void BuildDrop(const wire::RequestHeader& header, const wire::IdEntry& chunk, MessageBytes* out);
void BuildPing(const wire::RequestHeader& header, MessageBytes* out);
void BuildEcho(const wire::RequestHeader& header, uint64_t reply_bytes, MessageBytes* out);

// Replies. The caller sets request_id, epoch, payload_bytes, times and load.
void BuildHelloReply(const wire::ReplyHeader& header, const wire::HelloReplyBody& body,
                     MessageBytes* out);
// Sets kIncomplete if anything is missing.
void BuildAttendReply(const wire::ReplyHeader& header, std::span<const wire::MissingEntry> missing,
                      MessageBytes* out);
void BuildStatReply(const wire::ReplyHeader& header, std::span<const wire::StatEntry> entries,
                    MessageBytes* out);
// Sets kMore as `more` says. `layer_tokens`: [open entries][layers].
void BuildListReply(const wire::ReplyHeader& header, std::span<const wire::StatEntry> entries,
                    uint32_t layers, std::span<const uint32_t> layer_tokens, bool more,
                    MessageBytes* out);
// PUBLISH, SEAL, FETCH, PIN, RELEASE, DROP, PING, ECHO. A FETCH's checksum and its flag are the
// caller's.
void BuildPlainReply(wire::Opcode opcode, const wire::ReplyHeader& header, MessageBytes* out);
// Sets code, text, retry_after_us and an empty payload from `status`, which must not be OK.
void BuildErrorReply(wire::Opcode opcode, const wire::ReplyHeader& header,
                     const absl::Status& status, MessageBytes* out);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_WIRE_BUILD_H_
