#include "tests/cluster/raw_calls.h"

#include <cstring>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "transport/record_checksum.h"

namespace latentd::testing {
namespace {

wire::RequestHeader SpoiltHeader(RawRequester& requester, uint64_t payload_bytes,
                                 const Spoil& spoil) {
  wire::RequestHeader header = requester.Header();
  header.payload_bytes = payload_bytes;
  if (spoil) spoil(header);
  return header;
}

wire::RangeBody Body(const ChunkId& id, const Range& range) {
  return {.chunk_hi = id.hi,
          .chunk_lo = id.lo,
          .first_layer = range.first_layer,
          .layers = range.layers,
          .first_token = range.first_token,
          .tokens = range.tokens};
}

}  // namespace

Range WholeOf(const ChunkData& chunk) { return {.layers = chunk.layers, .tokens = chunk.tokens}; }

absl::StatusOr<RawReply> Publish(RawRequester& requester, const ChunkData& chunk,
                                 const Range& range, const Spoil& spoil) {
  std::vector<std::byte> payload;
  for (uint32_t layer = range.first_layer; layer < range.first_layer + range.layers; ++layer) {
    const auto records = chunk.Layer(layer, range.first_token, range.tokens);
    payload.insert(payload.end(), records.begin(), records.end());
  }
  const wire::RequestHeader header = SpoiltHeader(requester, payload.size(), spoil);
  MessageBytes message;
  BuildPublish(header, Body(chunk.id, range), &message);
  return requester.Call(message, header.request_id, payload);
}

absl::StatusOr<RawReply> Seal(RawRequester& requester, const ChunkData& chunk,
                              std::optional<uint64_t> checksum, const Spoil& spoil) {
  const uint64_t truth = RangeChecksum(chunk.records, RecordBytes(chunk.geometry, chunk.format), 0,
                                       chunk.layers, 0, chunk.tokens);
  const wire::SealBody seal{.chunk_hi = chunk.id.hi,
                            .chunk_lo = chunk.id.lo,
                            .checksum = checksum.value_or(truth),
                            .tokens = chunk.tokens};
  const wire::RequestHeader header = SpoiltHeader(requester, 0, spoil);
  MessageBytes message;
  BuildSeal(header, seal, &message);
  return requester.Call(message, header.request_id);
}

absl::StatusOr<RawReply> Fetch(RawRequester& requester, const ChunkId& id, const Range& range) {
  const wire::RequestHeader header = requester.Header();
  MessageBytes message;
  BuildFetch(header, Body(id, range), &message);
  return requester.Call(message, header.request_id);
}

absl::StatusOr<RawReply> Pin(RawRequester& requester, const ChunkId& id, uint32_t lease_ms) {
  const wire::IdEntry entry{.chunk_hi = id.hi, .chunk_lo = id.lo};
  const wire::RequestHeader header = requester.Header();
  MessageBytes message;
  BuildPin(header, lease_ms, {&entry, 1}, &message);
  return requester.Call(message, header.request_id);
}

absl::StatusOr<RawReply> Release(RawRequester& requester, const ChunkId& id) {
  const wire::IdEntry entry{.chunk_hi = id.hi, .chunk_lo = id.lo};
  const wire::RequestHeader header = requester.Header();
  MessageBytes message;
  BuildRelease(header, {&entry, 1}, &message);
  return requester.Call(message, header.request_id);
}

absl::StatusOr<RawReply> Ping(RawRequester& requester, absl::Duration limit) {
  const wire::RequestHeader header = requester.Header();
  MessageBytes message;
  BuildPing(header, &message);
  return requester.Call(message, header.request_id, {}, limit);
}

uint64_t PostAttend(RawRequester& requester, const RawAttend& attend, const Spoil& spoil) {
  std::vector<wire::ChunkEntry> chunks(attend.parts.size());
  uint32_t after = 0;
  for (size_t i = chunks.size(); i-- > 0;) {
    const VisiblePart& part = attend.parts[i];
    chunks[i] = {.chunk_hi = part.id.hi,
                 .chunk_lo = part.id.lo,
                 .visible_tokens = part.visible_tokens,
                 .tokens_after = after};
    after += part.visible_tokens;
  }
  const wire::GroupEntry group{.tokens = attend.tokens,
                               .chunks = static_cast<uint32_t>(chunks.size()),
                               .causal = attend.causal ? 1u : 0u};
  const auto payload = std::as_bytes(attend.rows);
  const wire::RequestHeader header =
      SpoiltHeader(requester, payload.size(), [&](wire::RequestHeader& h) {
        h.flags = attend.flags;
        if (spoil) spoil(h);
      });
  MessageBytes message;
  BuildAttend(header,
              {.layer = attend.layer,
               .scale = attend.scale,
               .heads = attend.heads,
               .tokens = attend.tokens},
              {&group, 1}, chunks, &message);
  requester.Post(message, payload);
  return header.request_id;
}

absl::StatusOr<RawReply> Attend(RawRequester& requester, const RawAttend& attend,
                                const Spoil& spoil) {
  return requester.Await(PostAttend(requester, attend, spoil));
}

Partials PartialsOf(const absl::StatusOr<RawReply>& reply, uint32_t rows, uint32_t latent_width) {
  if (!reply.ok()) throw std::runtime_error(reply.status().ToString());
  if (reply->code() != wire::Code::kOk) throw std::runtime_error("refused: " + reply->text());
  Partials partials;
  partials.out.resize(uint64_t{rows} * latent_width);
  partials.lse.resize(rows);
  const size_t out_bytes = partials.out.size() * sizeof(float);
  if (reply->payload.size() != out_bytes + rows * sizeof(float)) {
    throw std::runtime_error(absl::StrCat("a reply of ", reply->payload.size(), " bytes"));
  }
  std::memcpy(partials.out.data(), reply->payload.data(), out_bytes);
  std::memcpy(partials.lse.data(), reply->payload.data() + out_bytes, rows * sizeof(float));
  return partials;
}

}  // namespace latentd::testing
