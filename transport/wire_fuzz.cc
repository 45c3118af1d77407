#include "transport/wire_fuzz.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <variant>
#include <vector>

#include "transport/errors.h"
#include "transport/wire_build.h"
#include "transport/wire_corpus.h"
#include "transport/wire_parse.h"

namespace latentd {
namespace {

// assert() that stays on in optimised builds.
void Must(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "the parser broke its promise: %s\n", what);
  std::abort();
}

// A refusal says something, and an error reply can be made of it that the other side can read.
void CheckRefusal(const absl::Status& status, const MessageOrigin& origin,
                  const WireLimits& limits) {
  Must(!status.message().empty(), "a refusal says why");
  wire::ReplyHeader header = {};
  header.request_id = origin.request_id.value_or(0);
  MessageBytes bytes;
  BuildErrorReply(static_cast<wire::Opcode>(origin.opcode), header, status, &bytes);
  const auto reply = ParseReply({bytes.data(), bytes.size()}, 0, limits);
  Must(reply.ok(), "a refusal makes an error reply");
  Must(reply->code() == ToWireCode(status), "an error reply keeps the code");
}

void Rebuild(const ParsedRequest& request, MessageBytes* out) {
  const wire::RequestHeader& header = request.header;
  std::visit(
      [&](const auto& body) {
        using Body = std::decay_t<decltype(body)>;
        if constexpr (std::is_same_v<Body, HelloRequest>) BuildHello(header, out);
        if constexpr (std::is_same_v<Body, PublishRequest>) BuildPublish(header, body.range, out);
        if constexpr (std::is_same_v<Body, SealRequest>) BuildSeal(header, body.seal, out);
        if constexpr (std::is_same_v<Body, AttendRequest>) {
          BuildAttend(header, body.attend, {body.groups.data(), body.groups.size()},
                      {body.chunks.data(), body.chunks.size()}, out);
        }
        if constexpr (std::is_same_v<Body, FetchRequest>) BuildFetch(header, body.range, out);
        if constexpr (std::is_same_v<Body, PinRequest>) {
          BuildPin(header, body.lease_ms, {body.ids.data(), body.ids.size()}, out);
        }
        if constexpr (std::is_same_v<Body, ReleaseRequest>) {
          BuildRelease(header, {body.ids.data(), body.ids.size()}, out);
        }
        if constexpr (std::is_same_v<Body, StatRequest>) {
          BuildStat(header, {body.ids.data(), body.ids.size()}, out);
        }
        if constexpr (std::is_same_v<Body, ListRequest>) BuildList(header, body.list, out);
        if constexpr (std::is_same_v<Body, DropRequest>) BuildDrop(header, body.chunk, out);
        if constexpr (std::is_same_v<Body, PingRequest>) BuildPing(header, out);
        if constexpr (std::is_same_v<Body, EchoRequest>) BuildEcho(header, body.reply_bytes, out);
      },
      request.body);
}

void CheckAttend(const AttendRequest& attend, uint64_t payload_bytes, const WireLimits& limits) {
  uint64_t next = 0;
  for (const wire::GroupEntry& group : attend.groups) {
    Must(group.first_token == next && group.tokens > 0, "groups tile the tokens");
    next += group.tokens;
    Must(uint64_t{group.first_chunk} + group.chunks <= attend.chunks.size(),
         "chunk ranges are in bounds");
    Must(attend.shifted || group.position_shift == 0, "no shift goes unflagged");
  }
  Must(next == attend.attend.tokens, "groups cover the tokens");
  Must(attend.attend.layer < limits.layers, "the layer is one of the layout's");
  Must(payload_bytes == next * attend.attend.heads * limits.geometry.row_width() * 2,
       "the payload holds the rows");
}

void CheckRequest(std::span<const std::byte> bytes, uint64_t payload_bytes,
                  const WireLimits& limits) {
  MessageOrigin origin;
  const auto request = ParseRequest(bytes, payload_bytes, limits, &origin);
  if (!request.ok()) return CheckRefusal(request.status(), origin, limits);
  Must(origin.request_id == request->header.request_id, "the origin is the header's");
  Must(request->header.payload_bytes == payload_bytes, "the payload is as stated");
  Must(ReplyPayloadBytes(*request, limits) <= limits.max_payload_bytes, "the reply is bounded");
  if (const auto* attend = std::get_if<AttendRequest>(&request->body)) {
    CheckAttend(*attend, payload_bytes, limits);
  }
  MessageBytes once;
  Rebuild(*request, &once);
  const auto again = ParseRequest({once.data(), once.size()}, payload_bytes, limits);
  Must(again.ok(), "what was parsed and built parses");
  MessageBytes twice;
  Rebuild(*again, &twice);
  Must(once == twice, "building what was parsed changes nothing");
}

void CheckReply(std::span<const std::byte> bytes, uint64_t payload_bytes,
                const WireLimits& limits) {
  MessageOrigin origin;
  const auto reply = ParseReply(bytes, payload_bytes, limits, &origin);
  if (!reply.ok()) return CheckRefusal(reply.status(), origin, limits);
  Must(reply->status().ok() == (reply->code() == wire::Code::kOk), "only OK is OK");
  if (const auto* attend = std::get_if<AttendReply>(&reply->body)) {
    Must(attend->missing.empty() == ((reply->header.flags & wire::kIncomplete) == 0),
         "incomplete says what is missing");
  }
}

}  // namespace
}  // namespace latentd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kPrefix = 1 + sizeof(uint64_t);
  if (size < kPrefix) return 0;
  uint64_t payload_bytes = 0;
  std::memcpy(&payload_bytes, data + 1, sizeof(payload_bytes));
  // A heap copy of the exact size, at an odd address: reads beyond the end are seen, and so are
  // aligned loads.
  std::vector<std::byte> copy(size - kPrefix + 1);
  if (size > kPrefix) std::memcpy(copy.data() + 1, data + kPrefix, size - kPrefix);
  const std::span<const std::byte> bytes(copy.data() + 1, size - kPrefix);
  const latentd::WireLimits limits = latentd::CorpusLimits();
  if (data[0] == 0) {
    latentd::CheckRequest(bytes, payload_bytes, limits);
  } else {
    latentd::CheckReply(bytes, payload_bytes, limits);
  }
  return 0;
}
