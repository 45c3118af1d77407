// What a cluster must answer: chunks of random records, kept beside it, and attention over them by
// the fp64 reference.
//
// Values; const calls from any thread.
#ifndef LATENTD_TESTS_CLUSTER_ORACLE_H_
#define LATENTD_TESTS_CLUSTER_ORACLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/mla.h"
#include "routing/ids.h"

namespace latentd::testing {

// A chunk's records [layers][tokens][record] as they are published.
struct ChunkData {
  ChunkId id;
  uint32_t tokens = 0;
  uint32_t layers = 0;
  Geometry geometry;
  RecordFormat format = RecordFormat::kBf16;
  std::vector<std::byte> records;

  // Records of `count` tokens of one layer from `first`.
  std::span<const std::byte> Layer(uint32_t layer, uint32_t first, uint32_t count) const;
};

// Values drawn from a normal distribution, as bf16.
std::vector<Bf16> RandomRows(uint64_t rows, const Geometry& geometry, std::mt19937_64& random);

// Random records; fp8 ones are quantised from bf16.
ChunkData RandomChunk(ChunkId id, uint32_t tokens, uint32_t layers, RecordFormat format,
                      std::mt19937_64& random);

// Records of a whole layer stack from bf16 records [layers][tokens][record].
ChunkData ChunkFromBf16(ChunkId id, uint32_t tokens, uint32_t layers, RecordFormat format,
                        std::vector<std::byte> bf16_records);

// The first `visible_tokens` tokens of a chunk. One that is missing has its place in the sequence,
// and nobody attends it.
struct ExpectedPart {
  const ChunkData* chunk = nullptr;
  uint32_t visible_tokens = 0;
  bool missing = false;
};

struct Partials {
  std::vector<float> out;  // [tokens][heads][latent_width]
  std::vector<float> lse;  // [tokens][heads]
};

// Attention of rows [tokens][heads][row_width], all one group, over `parts` in their order.
Partials Expect(std::span<const Bf16> rows, uint32_t tokens, uint32_t heads, uint32_t layer,
                float scale, bool causal, std::span<const ExpectedPart> parts);

// How far an answer is from what was expected: worst over its rows.
struct Difference {
  double out_rel_l2 = 0;
  double lse_abs = 0;

  bool Within(double out_bound, double lse_bound) const {
    return out_rel_l2 <= out_bound && lse_abs <= lse_bound;  // false for NaN
  }
};
Difference Compare(std::span<const float> out, std::span<const float> lse,
                   std::span<const float> expected_out, std::span<const float> expected_lse,
                   uint32_t latent_width);

// bf16 values as fp32.
std::vector<float> WidenBf16(std::span<const std::byte> bf16);

// The bounds that the project promises.
inline constexpr double kOutBound = 4e-3;
inline constexpr double kLseBound = 1e-3;

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_ORACLE_H_
