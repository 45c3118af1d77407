// Small worlds for the store's tests: a layout of few bytes, records that are a function of (seed,
// layer, token).
#ifndef LATENTD_DAEMON_STORE_STORE_TEST_UTIL_H_
#define LATENTD_DAEMON_STORE_STORE_TEST_UTIL_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "daemon/store/latent_store.h"
#include "transport/record_checksum.h"

namespace latentd {

inline Layout TinyLayout(uint32_t layers = 2) {
  return {.model = "tiny", .layers = layers, .latent_width = 8, .rope_width = 2};
}

// What the stores of these tests keep their records in: of the host in `bazel test`, of a GPU in
// latent_store_gpu_test.
AllocateRecordMemory TestMemory();

inline std::unique_ptr<LatentStore> TinyStore(uint32_t pages, StoreOptions options = {}) {
  if (options.layout.layers == 0) options.layout = TinyLayout();
  options.cache_bytes = pages * options.layout.page_bytes();
  return LatentStore::Create(std::move(options), TestMemory()).value();
}

// Finite bf16 values that differ by seed, layer and token.
inline std::vector<std::byte> TinyRecords(const Layout& layout, const RecordRange& range,
                                          uint32_t seed = 0) {
  const uint32_t width = layout.geometry().row_width();
  std::vector<std::byte> bytes;
  bytes.reserve(uint64_t{range.layers} * range.tokens * width * 2);
  for (uint32_t l = 0; l < range.layers; ++l) {
    for (uint32_t t = 0; t < range.tokens; ++t) {
      for (uint32_t i = 0; i < width; ++i) {
        const uint32_t mixed =
            (seed * 7919 + (range.first_layer + l) * 104729 + (range.first_token + t) * 31 + i) *
            2654435761u;
        const auto bits = static_cast<uint16_t>(0x3f00 | mixed >> 24);
        bytes.push_back(static_cast<std::byte>(bits & 0xff));
        bytes.push_back(static_cast<std::byte>(bits >> 8));
      }
    }
  }
  return bytes;
}

inline uint64_t TinyChecksum(const Layout& layout, uint32_t tokens, uint32_t seed = 0) {
  const RecordRange all{0, layout.layers, 0, tokens};
  return RangeChecksum(TinyRecords(layout, all, seed), layout.record_bytes(), 0, layout.layers, 0,
                       tokens);
}

inline constexpr SessionToken kAlice{1, 1};
inline constexpr SessionToken kBob{2, 2};
inline constexpr SessionToken kCarol{3, 3};

constexpr ChunkId TinyId(uint64_t n) { return {.hi = n << 48, .lo = n}; }

// A store with a clock and shorthands.
struct TinyWorld {
  std::unique_ptr<LatentStore> store;
  absl::Time now = absl::UnixEpoch();

  explicit TinyWorld(uint32_t pages, StoreOptions options = {})
      : store(TinyStore(pages, std::move(options))) {}

  const Layout& layout() const { return store->layout(); }
  absl::Status Publish(uint64_t chunk, RecordRange range, const SessionToken& session = kAlice,
                       uint32_t seed = 0) {
    now += absl::Seconds(1);
    return store->Publish(TinyId(chunk), range, TinyRecords(layout(), range, seed), session, now);
  }
  // All layers of tokens [0, tokens).
  absl::Status PublishAll(uint64_t chunk, uint32_t tokens, const SessionToken& session = kAlice) {
    return Publish(chunk, {0, layout().layers, 0, tokens}, session);
  }
  absl::Status Seal(uint64_t chunk, uint32_t tokens) {
    now += absl::Seconds(1);
    return store->Seal(TinyId(chunk), tokens, TinyChecksum(layout(), tokens), now);
  }
  // Publishes and seals.
  absl::Status Fill(uint64_t chunk, uint32_t tokens, const SessionToken& session = kAlice) {
    absl::Status s = PublishAll(chunk, tokens, session);
    return s.ok() ? Seal(chunk, tokens) : s;
  }
  bool Has(uint64_t chunk) const { return store->Stat(TinyId(chunk), now).has_value(); }
  uint64_t pages_free() const { return store->counts().pages_free; }
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_STORE_TEST_UTIL_H_
