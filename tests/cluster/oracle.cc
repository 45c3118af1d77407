#include "tests/cluster/oracle.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/bf16.h"
#include "kernels/quantize.h"
#include "kernels/reference/reference.h"

namespace latentd::testing {
namespace {

uint32_t PagesOf(uint32_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

// One layer of the parts' chunks laid out as pages of a store.
struct Pages {
  std::vector<std::byte> arena;
  std::vector<std::vector<uint32_t>> ids;  // of each part
};

Pages LayOut(uint32_t layer, std::span<const ExpectedPart> parts, uint64_t record_bytes) {
  const uint64_t page_bytes = kPageTokens * record_bytes;
  Pages pages;
  uint32_t next = 0;
  for (const ExpectedPart& part : parts) {
    if (part.missing) {
      pages.ids.emplace_back();
      continue;
    }
    const auto records = part.chunk->Layer(layer, 0, part.visible_tokens);
    const uint32_t count = PagesOf(part.visible_tokens);
    pages.arena.resize((next + count) * page_bytes);
    std::ranges::copy(records, pages.arena.begin() + static_cast<ptrdiff_t>(next * page_bytes));
    auto& ids = pages.ids.emplace_back();
    for (uint32_t i = 0; i < count; ++i) ids.push_back(next++);
  }
  return pages;
}

double RowRelativeL2(std::span<const float> got, std::span<const float> expected) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = double{got[i]} - double{expected[i]};
    error += difference * difference;
    norm += double{expected[i]} * double{expected[i]};
  }
  if (norm == 0) return error == 0 ? 0 : INFINITY;
  return std::sqrt(error / norm);
}

// Written so that a NaN counts as infinitely wrong.
double Worse(double worst, double next) {
  return next <= worst ? worst : std::isnan(next) ? INFINITY : next;
}

}  // namespace

std::span<const std::byte> ChunkData::Layer(uint32_t layer, uint32_t first, uint32_t count) const {
  const uint64_t record = RecordBytes(geometry, format);
  return std::span(records).subspan((uint64_t{layer} * tokens + first) * record, count * record);
}

std::vector<Bf16> RandomRows(uint64_t rows, const Geometry& geometry, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<Bf16> values(rows * geometry.row_width());
  for (Bf16& value : values) value = FloatToBf16(normal(random));
  return values;
}

ChunkData RandomChunk(ChunkId id, uint32_t tokens, uint32_t layers, RecordFormat format,
                      std::mt19937_64& random) {
  const std::vector<Bf16> rows = RandomRows(uint64_t{layers} * tokens, Geometry{}, random);
  const auto bytes = std::as_bytes(std::span(rows));
  return ChunkFromBf16(id, tokens, layers, format, {bytes.begin(), bytes.end()});
}

ChunkData ChunkFromBf16(ChunkId id, uint32_t tokens, uint32_t layers, RecordFormat format,
                        std::vector<std::byte> bf16_records) {
  ChunkData chunk{.id = id, .tokens = tokens, .layers = layers, .format = format};
  if (format == RecordFormat::kBf16) {
    chunk.records = std::move(bf16_records);
    return chunk;
  }
  const uint64_t count = uint64_t{layers} * tokens;
  chunk.records.resize(count * RecordBytes(chunk.geometry, format));
  QuantizeRecords(chunk.geometry, bf16_records.data(), count, chunk.records.data());
  return chunk;
}

Partials Expect(std::span<const Bf16> rows, uint32_t tokens, uint32_t heads, uint32_t layer,
                float scale, bool causal, std::span<const ExpectedPart> parts) {
  const ChunkData& any = *parts.front().chunk;
  const uint64_t record_bytes = RecordBytes(any.geometry, any.format);
  const Pages pages = LayOut(layer, parts, record_bytes);
  std::vector<Segment> segments(parts.size());
  uint32_t after = 0;
  for (size_t i = parts.size(); i-- > 0;) {
    segments[i] = {.page_ids = pages.ids[i].data(),
                   .visible_tokens = parts[i].missing ? 0 : parts[i].visible_tokens,
                   .tokens_after = after};
    after += parts[i].visible_tokens;
  }
  const Group group{
      .tokens = tokens, .segments = static_cast<uint32_t>(parts.size()), .causal = causal};

  Partials partials;
  partials.out.resize(uint64_t{tokens} * heads * any.geometry.latent_width);
  partials.lse.resize(uint64_t{tokens} * heads);
  const Problem problem{.layer = 0,
                        .tokens = tokens,
                        .heads = heads,
                        .scale = scale,
                        .groups = {&group, 1},
                        .segments = segments,
                        .rows = rows.data(),
                        .out_format = OutFormat::kFp32,
                        .out = partials.out.data(),
                        .lse = partials.lse.data()};
  const CacheView cache{.arena = pages.arena.data(),
                        .page_bytes = kPageTokens * record_bytes,
                        .layer_bytes = kPageTokens * record_bytes};
  ReferenceAttend(any.geometry, any.format, cache, problem);
  return partials;
}

Difference Compare(std::span<const float> out, std::span<const float> lse,
                   std::span<const float> expected_out, std::span<const float> expected_lse,
                   uint32_t latent_width) {
  Difference worst;
  for (size_t row = 0; row < expected_lse.size(); ++row) {
    worst.out_rel_l2 = Worse(worst.out_rel_l2,
                             RowRelativeL2(out.subspan(row * latent_width, latent_width),
                                           expected_out.subspan(row * latent_width, latent_width)));
    const bool both_empty = std::isinf(lse[row]) && lse[row] == expected_lse[row];
    worst.lse_abs = Worse(worst.lse_abs, both_empty ? 0 : std::abs(lse[row] - expected_lse[row]));
  }
  return worst;
}

std::vector<float> WidenBf16(std::span<const std::byte> bf16) {
  std::vector<float> values(bf16.size() / sizeof(Bf16));
  for (size_t i = 0; i < values.size(); ++i) {
    Bf16 value;
    std::memcpy(&value, bf16.data() + i * sizeof(Bf16), sizeof(value));
    values[i] = Bf16ToFloat(value);
  }
  return values;
}

}  // namespace latentd::testing
