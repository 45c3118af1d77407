#include "transport/wire_build.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "transport/errors.h"

namespace latentd {
namespace {

using wire::Opcode;

// Sizes the buffer for the whole message and writes the fixed header; Append fills the rest.
class Builder {
 public:
  template <typename Header>
  Builder(Opcode opcode, Header header, size_t meta_bytes, MessageBytes* out) : out_(out) {
    header.magic = wire::kMagic;
    header.version = wire::kVersion;
    header.header_bytes = sizeof(Header);
    header.opcode = static_cast<uint16_t>(opcode);
    header.meta_bytes = static_cast<uint32_t>(meta_bytes);
    out->resize(sizeof(Header) + meta_bytes);
    Append(header);
  }

  template <typename T>
  void Append(const T& value) {
    AppendArray(std::span<const T>(&value, 1));
  }

  template <typename T>
  void AppendArray(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (values.empty()) return;
    std::memcpy(out_->data() + at_, values.data(), values.size_bytes());
    at_ += values.size_bytes();
  }

 private:
  MessageBytes* out_;
  size_t at_ = 0;
};

void BuildIds(Opcode opcode, const wire::RequestHeader& header, uint32_t lease_ms,
              std::span<const wire::IdEntry> ids, MessageBytes* out) {
  Builder builder(opcode, header, sizeof(wire::IdListBody) + ids.size_bytes(), out);
  builder.Append(wire::IdListBody{static_cast<uint32_t>(ids.size()), lease_ms});
  builder.AppendArray(ids);
}

// The longest prefix of at most `most` bytes that does not end inside a UTF-8 character.
size_t Utf8Prefix(absl::string_view text, size_t most) {
  if (text.size() <= most) return text.size();
  size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return end;
}

}  // namespace

void BuildHello(const wire::RequestHeader& header, MessageBytes* out) {
  Builder(Opcode::kHello, header, 0, out);
}

void BuildPublish(const wire::RequestHeader& header, const wire::RangeBody& range,
                  MessageBytes* out) {
  Builder(Opcode::kPublish, header, sizeof(range), out).Append(range);
}

void BuildSeal(const wire::RequestHeader& header, const wire::SealBody& seal, MessageBytes* out) {
  Builder(Opcode::kSeal, header, sizeof(seal), out).Append(seal);
}

void BuildAttend(const wire::RequestHeader& header, wire::AttendBody body,
                 std::span<const wire::GroupEntry> groups, std::span<const wire::ChunkEntry> chunks,
                 MessageBytes* out) {
  body.groups = static_cast<uint32_t>(groups.size());
  body.chunks = static_cast<uint32_t>(chunks.size());
  wire::RequestHeader flagged = header;
  for (const wire::GroupEntry& group : groups) {
    if (group.position_shift != 0) flagged.flags |= wire::kShifted;
  }
  Builder builder(Opcode::kAttend, flagged,
                  sizeof(body) + groups.size_bytes() + chunks.size_bytes(), out);
  builder.Append(body);
  builder.AppendArray(groups);
  builder.AppendArray(chunks);
}

void BuildFetch(const wire::RequestHeader& header, const wire::RangeBody& range,
                MessageBytes* out) {
  Builder(Opcode::kFetch, header, sizeof(range), out).Append(range);
}

void BuildPin(const wire::RequestHeader& header, uint32_t lease_ms,
              std::span<const wire::IdEntry> ids, MessageBytes* out) {
  BuildIds(Opcode::kPin, header, lease_ms, ids, out);
}

void BuildRelease(const wire::RequestHeader& header, std::span<const wire::IdEntry> ids,
                  MessageBytes* out) {
  BuildIds(Opcode::kRelease, header, 0, ids, out);
}

void BuildStat(const wire::RequestHeader& header, std::span<const wire::IdEntry> ids,
               MessageBytes* out) {
  BuildIds(Opcode::kStat, header, 0, ids, out);
}

void BuildList(const wire::RequestHeader& header, const wire::ListBody& list, MessageBytes* out) {
  Builder(Opcode::kList, header, sizeof(list), out).Append(list);
}

void BuildDrop(const wire::RequestHeader& header, const wire::IdEntry& chunk, MessageBytes* out) {
  wire::RequestHeader flagged = header;
  flagged.flags |= wire::kReplica;
  Builder(Opcode::kDrop, flagged, sizeof(chunk), out).Append(chunk);
}

void BuildPing(const wire::RequestHeader& header, MessageBytes* out) {
  Builder(Opcode::kPing, header, 0, out);
}

void BuildEcho(const wire::RequestHeader& header, uint64_t reply_bytes, MessageBytes* out) {
  Builder(Opcode::kEcho, header, sizeof(wire::EchoBody), out).Append(wire::EchoBody{reply_bytes});
}

void BuildHelloReply(const wire::ReplyHeader& header, const wire::HelloReplyBody& body,
                     MessageBytes* out) {
  Builder(Opcode::kHello, header, sizeof(body), out).Append(body);
}

void BuildAttendReply(const wire::ReplyHeader& header, std::span<const wire::MissingEntry> missing,
                      MessageBytes* out) {
  wire::ReplyHeader flagged = header;
  flagged.flags = missing.empty() ? 0 : wire::kIncomplete;
  Builder(Opcode::kAttend, flagged, missing.size_bytes(), out).AppendArray(missing);
}

void BuildStatReply(const wire::ReplyHeader& header, std::span<const wire::StatEntry> entries,
                    MessageBytes* out) {
  Builder(Opcode::kStat, header, entries.size_bytes(), out).AppendArray(entries);
}

void BuildListReply(const wire::ReplyHeader& header, std::span<const wire::StatEntry> entries,
                    uint32_t layers, std::span<const uint32_t> layer_tokens, bool more,
                    MessageBytes* out) {
  wire::ReplyHeader flagged = header;
  flagged.flags = more ? wire::kMore : 0;
  Builder builder(Opcode::kList, flagged,
                  sizeof(wire::ListReplyBody) + entries.size_bytes() + layer_tokens.size_bytes(),
                  out);
  builder.Append(wire::ListReplyBody{static_cast<uint32_t>(entries.size()), layers});
  builder.AppendArray(entries);
  builder.AppendArray(layer_tokens);
}

void BuildPlainReply(Opcode opcode, const wire::ReplyHeader& header, MessageBytes* out) {
  Builder(opcode, header, 0, out);
}

void BuildErrorReply(Opcode opcode, const wire::ReplyHeader& header, const absl::Status& status,
                     MessageBytes* out) {
  wire::ReplyHeader error = header;
  // An OK status here is a bug of the caller; the peer must not take it for an answer.
  error.code = static_cast<uint16_t>(status.ok() ? wire::Code::kInternal : ToWireCode(status));
  error.flags = 0;
  error.payload_bytes = 0;
  if (const auto retry = RetryAfter(status); retry.has_value()) {
    error.retry_after_us = static_cast<uint32_t>(
        std::clamp<int64_t>(absl::ToInt64Microseconds(*retry), 1, UINT32_MAX));
  }
  const absl::string_view text = status.message();
  const size_t bytes = Utf8Prefix(text, kMaxErrorText);
  Builder(opcode, error, bytes, out).AppendArray(std::span<const char>(text.data(), bytes));
}

}  // namespace latentd
