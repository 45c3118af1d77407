#include <string>

#include "absl/strings/str_cat.h"
#include "transport/errors.h"
#include "transport/wire_parse.h"
#include "transport/wire_read.h"

namespace latentd {
namespace {

using wire::Opcode;

uint16_t KnownFlags(Opcode opcode) {
  switch (opcode) {
    case Opcode::kAttend:
      return wire::kIncomplete;
    case Opcode::kFetch:
      return wire::kReplyChecksum;
    case Opcode::kList:
      return wire::kMore;
    default:
      return 0;
  }
}

absl::Status ParseErrorText(WireReader& meta, ParsedReply* out) {
  if (out->header.payload_bytes != 0) {
    return Mismatch("payload_bytes", out->header.payload_bytes, "0 (an error carries none)");
  }
  const auto text = meta.rest();
  out->body = ErrorReply{std::string(reinterpret_cast<const char*>(text.data()), text.size())};
  return absl::OkStatus();
}

// Reads the whole of meta as entries of one kind.
template <typename Vector>
absl::Status ReadEntries(WireReader& meta, const char* what, uint64_t most, Vector* out) {
  constexpr size_t kBytes = sizeof(typename Vector::value_type);
  if (meta.left() % kBytes != 0) {
    return Mismatch("meta_bytes", meta.left(), absl::StrCat("a multiple of ", kBytes));
  }
  const uint64_t count = meta.left() / kBytes;
  if (auto s = CheckCount(what, count, 0, most); !s.ok()) return s;
  return meta.ReadArray(what, count, out);
}

absl::Status ParseList(WireReader& meta, const WireLimits& limits, ListReply* out) {
  wire::ListReplyBody body{};
  if (auto s = meta.Read("list reply", &body); !s.ok()) return s;
  if (auto s = CheckCount("list.chunks", body.chunks, 0, limits.max_chunks); !s.ok()) return s;
  if (auto s = meta.ReadArray("list entries", body.chunks, &out->entries); !s.ok()) return s;
  // Without a layer an open chunk would take no bytes, and could have none.
  if (auto s = CheckCount("list.layers", body.layers, 1, limits.layers); !s.ok()) return s;
  out->layer_tokens.resize(out->entries.size());
  for (size_t i = 0; i < out->entries.size(); ++i) {
    if (out->entries[i].sealed != 0) continue;
    auto& tokens = out->layer_tokens[i];
    if (auto s = meta.ReadArray("list layers", body.layers, &tokens); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status ParseReplyBody(WireReader& meta, const WireLimits& limits, ParsedReply* out) {
  switch (out->opcode()) {
    case Opcode::kHello:
      if (auto s = meta.Read("hello reply", &out->body.emplace<HelloReply>().hello); !s.ok()) {
        return s;
      }
      return meta.ExpectEnd();
    case Opcode::kStat: {
      auto& stat = out->body.emplace<StatReply>();
      return ReadEntries(meta, "stat entries", limits.max_chunks, &stat.entries);
    }
    case Opcode::kList: {
      auto& list = out->body.emplace<ListReply>();
      list.more = (out->header.flags & wire::kMore) != 0;
      if (auto s = ParseList(meta, limits, &list); !s.ok()) return s;
      return meta.ExpectEnd();
    }
    case Opcode::kAttend: {
      auto& attend = out->body.emplace<AttendReply>();
      if ((out->header.flags & wire::kIncomplete) == 0) return meta.ExpectEnd();
      if (auto s = ReadEntries(meta, "missing entries", limits.max_chunks, &attend.missing);
          !s.ok()) {
        return s;
      }
      // An incomplete answer that does not say what is missing cannot be told from a complete one.
      if (attend.missing.empty()) return Mismatch("missing entries", 0, "at least 1");
      return absl::OkStatus();
    }
    case Opcode::kPublish:
    case Opcode::kSeal:
    case Opcode::kFetch:
    case Opcode::kPin:
    case Opcode::kRelease:
    case Opcode::kDrop:
    case Opcode::kPing:
    case Opcode::kEcho:
      out->body = PlainReply{};
      return meta.ExpectEnd();
  }
  return absl::UnimplementedError(
      absl::StrCat("opcode: got ", out->header.opcode, ", which this build does not know"));
}

}  // namespace

absl::StatusOr<ParsedReply> ParseReply(std::span<const std::byte> am_header,
                                       uint64_t am_payload_bytes, const WireLimits& limits,
                                       MessageOrigin* origin) {
  ParsedReply reply{};
  wire::ReplyHeader& header = reply.header;
  if (auto s = ReadFixedHeader(am_header, &header); !s.ok()) return s;
  if (origin != nullptr) *origin = {header.request_id, header.opcode};
  if (auto s = CheckFraming(header, am_header.size(), am_payload_bytes); !s.ok()) return s;

  WireReader meta(am_header.subspan(header.header_bytes));
  if (reply.code() != wire::Code::kOk) {
    // Whatever the opcode: a holder may refuse a request that it could not even read.
    if (auto s = ParseErrorText(meta, &reply); !s.ok()) return s;
    return reply;
  }
  if (const uint16_t unknown = header.flags & ~KnownFlags(reply.opcode()); unknown != 0) {
    return absl::UnimplementedError(absl::StrCat("flags: got 0x", absl::Hex(header.flags),
                                                 ", of which this build does not know 0x",
                                                 absl::Hex(unknown), " for this opcode"));
  }
  if ((header.flags & wire::kReplyChecksum) != 0) {
    if (auto s = CheckField("a payload checksum", header.header_bytes, sizeof(header)); !s.ok()) {
      return s;
    }
  }
  if (header.payload_bytes > limits.max_payload_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("payload_bytes: got ", header.payload_bytes,
                                                     ", expected at most ",
                                                     limits.max_payload_bytes));
  }
  if (auto s = ParseReplyBody(meta, limits, &reply); !s.ok()) return s;
  return reply;
}

absl::Status ParsedReply::status() const {
  if (code() == wire::Code::kOk) return absl::OkStatus();
  const auto* error = std::get_if<ErrorReply>(&body);
  absl::Status status = FromWireCode(code(), error != nullptr ? error->message : "");
  return WithRetryAfter(std::move(status), absl::Microseconds(header.retry_after_us));
}

absl::Status CheckAnswers(const ParsedReply& reply, const ParsedRequest& request,
                          const WireLimits& limits) {
  if (reply.header.request_id != request.header.request_id) {
    return Mismatch("request_id", reply.header.request_id, absl::StrCat(request.header.request_id));
  }
  if (reply.code() != wire::Code::kOk) return absl::OkStatus();
  if (reply.header.opcode != request.header.opcode) {
    return Mismatch("opcode", reply.header.opcode, absl::StrCat(request.header.opcode));
  }
  if ((reply.header.flags & wire::kIncomplete) != 0 &&
      (request.header.flags & wire::kBestEffort) == 0) {
    return absl::InvalidArgumentError(
        "flags: got an incomplete answer, expected a whole one (best effort was not asked)");
  }
  const uint64_t expected = ReplyPayloadBytes(request, limits);
  if (reply.header.payload_bytes != expected) {
    return Mismatch("payload_bytes", reply.header.payload_bytes, absl::StrCat(expected));
  }
  if (const auto* stat = std::get_if<StatRequest>(&request.body)) {
    const auto* answer = std::get_if<StatReply>(&reply.body);
    if (answer == nullptr || answer->entries.size() != stat->ids.size()) {
      return Mismatch("stat entries", answer == nullptr ? 0 : answer->entries.size(),
                      absl::StrCat(stat->ids.size()));
    }
  }
  if (const auto* list = std::get_if<ListRequest>(&request.body)) {
    const auto* answer = std::get_if<ListReply>(&reply.body);
    if (answer == nullptr || answer->entries.size() > list->list.limit) {
      return Mismatch("list entries", answer == nullptr ? 0 : answer->entries.size(),
                      absl::StrCat("at most ", list->list.limit));
    }
  }
  return absl::OkStatus();
}

}  // namespace latentd
