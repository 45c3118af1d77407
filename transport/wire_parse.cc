#include "transport/wire_parse.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "transport/errors.h"
#include "transport/wire_read.h"
#include "transport/wire_sizes.h"

namespace latentd {
namespace {

using wire::Opcode;

constexpr uint32_t kSlots = 65536;  // a slot is the top 16 bits of a chunk id

uint16_t KnownFlags(Opcode opcode) {
  switch (opcode) {
    case Opcode::kAttend:
      return wire::kOutFp32 | wire::kBestEffort | wire::kDeviceMemory | wire::kShifted;
    case Opcode::kPublish:
      return wire::kPayloadChecksum | wire::kReplica;
    case Opcode::kSeal:
    case Opcode::kDrop:
      return wire::kReplica;
    case Opcode::kStat:
      return wire::kDoubted;
    default:
      return 0;
  }
}

absl::Status CheckFlags(const wire::RequestHeader& header) {
  const auto opcode = static_cast<Opcode>(header.opcode);
  if (const uint16_t unknown = header.flags & ~KnownFlags(opcode); unknown != 0) {
    return absl::UnimplementedError(absl::StrCat("flags: got 0x", absl::Hex(header.flags),
                                                 ", of which this build does not know 0x",
                                                 absl::Hex(unknown), " for this opcode"));
  }
  using H = wire::RequestHeader;
  if ((header.flags & wire::kPayloadChecksum) != 0) {
    const size_t end = offsetof(H, payload_checksum) + sizeof(H::payload_checksum);
    if (auto s = CheckField("a payload checksum", header.header_bytes, end); !s.ok()) return s;
  }
  if ((header.flags & wire::kReplica) != 0) {
    const size_t end = offsetof(H, placed) + sizeof(H::placed);
    if (auto s = CheckField("the replica flag", header.header_bytes, end); !s.ok()) return s;
  } else if (opcode == Opcode::kDrop) {
    return Mismatch("flags", header.flags, "the replica flag (only a slot's primary sends DROP)");
  }
  return absl::OkStatus();
}

bool NeedsLayout(Opcode opcode) {
  return opcode != Opcode::kHello && opcode != Opcode::kPing && opcode != Opcode::kEcho;
}

absl::Status CheckPayload(const wire::RequestHeader& header, std::optional<uint64_t> expected,
                          absl::string_view formula) {
  if (!expected.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("payload_bytes: ", formula, " overflows"));
  }
  if (header.payload_bytes == *expected) return absl::OkStatus();
  return Mismatch("payload_bytes", header.payload_bytes,
                  absl::StrCat(*expected, " (", formula, ")"));
}

absl::Status CheckRange(const wire::RangeBody& range, const WireLimits& limits) {
  if (range.layers == 0) return Mismatch("range.layers", 0, "at least 1");
  if (range.tokens == 0) return Mismatch("range.tokens", 0, "at least 1");
  uint32_t end = 0;
  if (__builtin_add_overflow(range.first_token, range.tokens, &end)) {
    return Mismatch("range.first_token + range.tokens", uint64_t{range.first_token} + range.tokens,
                    "less than 2^32");
  }
  const uint64_t end_layer = uint64_t{range.first_layer} + range.layers;
  if (end_layer > limits.layers) {
    return absl::OutOfRangeError(absl::StrCat("range.first_layer + range.layers: got ", end_layer,
                                              ", expected at most the layout's ", limits.layers));
  }
  return absl::OkStatus();
}

absl::Status ParseAttend(WireReader& meta, const wire::RequestHeader& header,
                         const WireLimits& limits, AttendRequest* out) {
  out->out_fp32 = (header.flags & wire::kOutFp32) != 0;
  out->best_effort = (header.flags & wire::kBestEffort) != 0;
  out->shifted = (header.flags & wire::kShifted) != 0;
  wire::AttendBody& body = out->attend;
  if (auto s = meta.Read("attend body", &body); !s.ok()) return s;
  if (!std::isfinite(body.scale)) {
    return absl::InvalidArgumentError("attend.scale: got no finite number, expected one");
  }
  if (body.layer >= limits.layers) {
    return absl::OutOfRangeError(absl::StrCat("attend.layer: got ", body.layer,
                                              ", expected less than the layout's ", limits.layers));
  }
  // A bound of the problem, not of this receiver: no other node and no later time would take it.
  if (body.heads == 0) return Mismatch("attend.heads", 0, "at least 1");
  if (body.heads > kMaxHeads) {
    return Mismatch("attend.heads", body.heads, absl::StrCat("at most ", kMaxHeads));
  }
  if (auto s = CheckCount("attend.tokens", body.tokens, 1, limits.max_query_tokens); !s.ok()) {
    return s;
  }
  if (auto s = CheckCount("attend.groups", body.groups, 1, limits.max_groups); !s.ok()) return s;
  if (auto s = CheckCount("attend.chunks", body.chunks, 0, limits.max_chunks); !s.ok()) return s;
  if (auto s = meta.ReadArray("attend groups", body.groups, &out->groups); !s.ok()) return s;
  if (auto s = meta.ReadArray("attend chunks", body.chunks, &out->chunks); !s.ok()) return s;

  uint64_t next_token = 0;
  for (size_t i = 0; i < out->groups.size(); ++i) {
    const wire::GroupEntry& group = out->groups[i];
    const auto field = [i](absl::string_view name) {
      return absl::StrCat("attend.groups[", i, "].", name);
    };
    if (group.first_token != next_token) {
      return Mismatch(field("first_token"), group.first_token,
                      absl::StrCat(next_token, " (groups cover the tokens in order)"));
    }
    if (group.tokens == 0) return Mismatch(field("tokens"), 0, "at least 1");
    next_token += group.tokens;
    if (next_token > body.tokens) {
      return Mismatch(field("tokens"), group.tokens,
                      absl::StrCat("an end of at most attend.tokens = ", body.tokens));
    }
    const uint64_t end_chunk = uint64_t{group.first_chunk} + group.chunks;
    if (end_chunk > body.chunks) {
      return Mismatch(field("first_chunk + chunks"), end_chunk,
                      absl::StrCat("at most attend.chunks = ", body.chunks));
    }
    if (group.causal > 1) return Mismatch(field("causal"), group.causal, "0 or 1");
    if (group.position_shift != 0 && !out->shifted) {
      return absl::InvalidArgumentError(absl::StrCat(field("position_shift"), ": got ",
                                                     group.position_shift,
                                                     ", expected 0 without the flag for shifts"));
    }
  }
  if (next_token != body.tokens) {
    return Mismatch("attend.groups: tokens covered", next_token,
                    absl::StrCat("attend.tokens = ", body.tokens));
  }
  return CheckPayload(header, AttendRowsBytes(body.tokens, body.heads, limits.geometry),
                      "tokens x heads x row bytes");
}

absl::Status ParseIds(WireReader& meta, const WireLimits& limits, uint32_t* lease_ms,
                      IdEntries* ids) {
  wire::IdListBody body{};
  if (auto s = meta.Read("id list body", &body); !s.ok()) return s;
  if (auto s = CheckCount("ids.chunks", body.chunks, 1, limits.max_chunks); !s.ok()) return s;
  if (lease_ms != nullptr) *lease_ms = body.lease_ms;
  return meta.ReadArray("ids", body.chunks, ids);
}

absl::Status ParseBody(WireReader& meta, const WireLimits& limits, ParsedRequest* out) {
  const wire::RequestHeader& header = out->header;
  switch (out->opcode()) {
    case Opcode::kHello:
      out->body = HelloRequest{};
      return CheckPayload(header, 0, "HELLO carries none");
    case Opcode::kPublish: {
      auto& body = out->body.emplace<PublishRequest>();
      if (auto s = meta.Read("range body", &body.range); !s.ok()) return s;
      if (auto s = CheckRange(body.range, limits); !s.ok()) return s;
      return CheckPayload(
          header,
          RecordsBytes(body.range.layers, body.range.tokens, limits.geometry, limits.format),
          "layers x tokens x record bytes");
    }
    case Opcode::kSeal: {
      auto& body = out->body.emplace<SealRequest>();
      if (auto s = meta.Read("seal body", &body.seal); !s.ok()) return s;
      if (body.seal.tokens == 0) return Mismatch("seal.tokens", 0, "at least 1");
      return CheckPayload(header, 0, "SEAL carries none");
    }
    case Opcode::kAttend:
      return ParseAttend(meta, header, limits, &out->body.emplace<AttendRequest>());
    case Opcode::kFetch: {
      auto& body = out->body.emplace<FetchRequest>();
      if (auto s = meta.Read("range body", &body.range); !s.ok()) return s;
      if (auto s = CheckRange(body.range, limits); !s.ok()) return s;
      return CheckPayload(header, 0, "FETCH carries none");
    }
    case Opcode::kPin: {
      auto& body = out->body.emplace<PinRequest>();
      if (auto s = ParseIds(meta, limits, &body.lease_ms, &body.ids); !s.ok()) return s;
      return CheckPayload(header, 0, "PIN carries none");
    }
    case Opcode::kRelease: {
      auto& body = out->body.emplace<ReleaseRequest>();
      if (auto s = ParseIds(meta, limits, nullptr, &body.ids); !s.ok()) return s;
      return CheckPayload(header, 0, "RELEASE carries none");
    }
    case Opcode::kStat: {
      auto& body = out->body.emplace<StatRequest>();
      if (auto s = ParseIds(meta, limits, nullptr, &body.ids); !s.ok()) return s;
      return CheckPayload(header, 0, "STAT carries none");
    }
    case Opcode::kList: {
      auto& body = out->body.emplace<ListRequest>();
      if (auto s = meta.Read("list body", &body.list); !s.ok()) return s;
      if (body.list.slot >= kSlots) return Mismatch("list.slot", body.list.slot, "less than 65536");
      // Not a bound that a holder has to meet: it lists what one reply holds.
      if (body.list.limit == 0) return Mismatch("list.limit", 0, "at least 1");
      return CheckPayload(header, 0, "LIST carries none");
    }
    case Opcode::kDrop:
      if (auto s = meta.Read("drop body", &out->body.emplace<DropRequest>().chunk); !s.ok()) {
        return s;
      }
      return CheckPayload(header, 0, "DROP carries none");
    case Opcode::kPing:
      out->body = PingRequest{};
      return CheckPayload(header, 0, "PING carries none");
    case Opcode::kEcho: {
      wire::EchoBody body{};
      if (auto s = meta.Read("echo body", &body); !s.ok()) return s;
      out->body = EchoRequest{body.reply_bytes};
      if (auto s = CheckCount("echo.reply_bytes", body.reply_bytes, 0, limits.max_echo_bytes);
          !s.ok()) {
        return s;
      }
      return CheckCount("payload_bytes", header.payload_bytes, 0, limits.max_echo_bytes);
    }
  }
  return absl::UnimplementedError(
      absl::StrCat("opcode: got ", header.opcode, ", which this build does not know"));
}

}  // namespace

absl::StatusOr<ParsedRequest> ParseRequest(std::span<const std::byte> am_header,
                                           uint64_t am_payload_bytes, const WireLimits& limits,
                                           MessageOrigin* origin) {
  ParsedRequest request{};
  wire::RequestHeader& header = request.header;
  if (auto s = ReadFixedHeader(am_header, &header); !s.ok()) return s;
  if (origin != nullptr) *origin = {header.request_id, header.opcode};
  if (auto s = CheckFraming(header, am_header.size(), am_payload_bytes); !s.ok()) return s;

  const std::string_view name = OpcodeName(request.opcode());
  if (name.empty()) {
    return absl::UnimplementedError(
        absl::StrCat("opcode: got ", header.opcode, ", which this build does not know"));
  }
  if (auto s = CheckFlags(header); !s.ok()) return s;
  if (NeedsLayout(request.opcode()) && limits.layout_hash != 0 &&
      header.layout_hash != limits.layout_hash) {
    return LayoutMismatchError(
        absl::StrCat("layout_hash: got 0x", absl::Hex(header.layout_hash, absl::kZeroPad16),
                     ", expected 0x", absl::Hex(limits.layout_hash, absl::kZeroPad16)));
  }
  if (header.payload_bytes > limits.max_payload_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("payload_bytes: got ", header.payload_bytes,
                                                     ", expected at most ",
                                                     limits.max_payload_bytes));
  }
  WireReader meta(am_header.subspan(header.header_bytes));
  if (auto s = ParseBody(meta, limits, &request); !s.ok()) return s;
  if (auto s = meta.ExpectEnd(); !s.ok()) return s;
  // Refused here, a request costs nothing; an answer that nobody takes would cost its whole
  // compute.
  if (const uint64_t reply = ReplyPayloadBytes(request, limits); reply > limits.max_payload_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "reply payload_bytes: got ", reply, ", expected at most ", limits.max_payload_bytes));
  }
  return request;
}

uint64_t ReplyPayloadBytes(const ParsedRequest& request, const WireLimits& limits) {
  if (const auto* attend = std::get_if<AttendRequest>(&request.body)) {
    return AttendReplyBytes(attend->attend.tokens, attend->attend.heads, limits.geometry,
                            attend->out_fp32 ? OutFormat::kFp32 : OutFormat::kBf16)
        .value_or(UINT64_MAX);
  }
  if (const auto* fetch = std::get_if<FetchRequest>(&request.body)) {
    return RecordsBytes(fetch->range.layers, fetch->range.tokens, limits.geometry, limits.format)
        .value_or(UINT64_MAX);
  }
  if (const auto* echo = std::get_if<EchoRequest>(&request.body)) return echo->reply_bytes;
  return 0;
}

std::string_view OpcodeName(Opcode opcode) {
  switch (opcode) {
    case Opcode::kHello:
      return "HELLO";
    case Opcode::kPublish:
      return "PUBLISH";
    case Opcode::kSeal:
      return "SEAL";
    case Opcode::kAttend:
      return "ATTEND";
    case Opcode::kFetch:
      return "FETCH";
    case Opcode::kPin:
      return "PIN";
    case Opcode::kRelease:
      return "RELEASE";
    case Opcode::kStat:
      return "STAT";
    case Opcode::kPing:
      return "PING";
    case Opcode::kEcho:
      return "ECHO";
    case Opcode::kList:
      return "LIST";
    case Opcode::kDrop:
      return "DROP";
  }
  return "";
}

}  // namespace latentd
