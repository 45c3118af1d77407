// Well-formed requests of a RawRequester, one function an opcode, and the knobs to spoil them.
#ifndef LATENTD_TESTS_CLUSTER_RAW_CALLS_H_
#define LATENTD_TESTS_CLUSTER_RAW_CALLS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "tests/cluster/oracle.h"
#include "tests/cluster/raw_requester.h"

namespace latentd::testing {

// Called on the header just before it is sent.
using Spoil = std::function<void(wire::RequestHeader&)>;

struct Range {
  uint32_t first_layer = 0;
  uint32_t layers = 0;
  uint32_t first_token = 0;
  uint32_t tokens = 0;
};

// All layers and tokens of a chunk.
Range WholeOf(const ChunkData& chunk);

absl::StatusOr<RawReply> Publish(RawRequester& requester, const ChunkData& chunk,
                                 const Range& range, const Spoil& spoil = {});
// `checksum`: the true one unless given.
absl::StatusOr<RawReply> Seal(RawRequester& requester, const ChunkData& chunk,
                              std::optional<uint64_t> checksum = {}, const Spoil& spoil = {});
absl::StatusOr<RawReply> Fetch(RawRequester& requester, const ChunkId& id, const Range& range);
absl::StatusOr<RawReply> Pin(RawRequester& requester, const ChunkId& id, uint32_t lease_ms);
absl::StatusOr<RawReply> Release(RawRequester& requester, const ChunkId& id);
absl::StatusOr<RawReply> Ping(RawRequester& requester, absl::Duration limit = absl::Seconds(10));

struct VisiblePart {
  ChunkId id;
  uint32_t visible_tokens = 0;
};

// One group over chunks in the order of the sequence.
struct RawAttend {
  uint32_t layer = 0;
  float scale = 0.05f;
  uint32_t heads = 0;
  uint32_t tokens = 0;
  bool causal = false;
  std::vector<VisiblePart> parts;
  std::span<const Bf16> rows;
  uint16_t flags = wire::kOutFp32;
};
absl::StatusOr<RawReply> Attend(RawRequester& requester, const RawAttend& attend,
                                const Spoil& spoil = {});
// The same without waiting; returns the request's id.
uint64_t PostAttend(RawRequester& requester, const RawAttend& attend, const Spoil& spoil = {});

// An OK reply with fp32 values, as partials. Throws std::runtime_error if it is anything else.
Partials PartialsOf(const absl::StatusOr<RawReply>& reply, uint32_t rows, uint32_t latent_width);

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_RAW_CALLS_H_
