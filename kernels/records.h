// Latent records as values: decoding one record of any format, and the checks that keep non-finite
// values out of a store and out of a batch.
//
// Pure functions: any thread. Nothing here allocates.
#ifndef LATENTD_KERNELS_RECORDS_H_
#define LATENTD_KERNELS_RECORDS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "kernels/mla.h"

namespace latentd {

// Byte offsets inside one fp8 record: latent e4m3 | scales fp32 | rope bf16.
constexpr uint64_t Fp8ScalesOffset(const Geometry& g) { return g.latent_width; }
constexpr uint64_t Fp8RopeOffset(const Geometry& g) {
  return g.latent_width + sizeof(float) * (g.latent_width / kFp8ScaleWidth);
}

// Where the rope values, bf16 in both formats, start in a record.
constexpr uint64_t RopeOffset(const Geometry& g, RecordFormat format) {
  return format == RecordFormat::kBf16 ? sizeof(Bf16) * g.latent_width : Fp8RopeOffset(g);
}

// Where record `token` (of its chunk) lies, given the chunk's pages.
inline const std::byte* RecordAddress(const Geometry& g, RecordFormat format,
                                      const CacheView& cache, const uint32_t* page_ids,
                                      uint32_t layer, uint32_t token) {
  return cache.arena + page_ids[token / kPageTokens] * cache.page_bytes +
         layer * cache.layer_bytes + token % kPageTokens * RecordBytes(g, format);
}

// Decodes one record into `values` [row_width()]. An fp8 latent value is e4m3 * scale rounded once
// to fp32.
void DecodeRecord(const Geometry& geometry, RecordFormat format, const std::byte* record,
                  std::span<float> values);

// The first of `row_count` rows of `row_width` bf16 values that holds a NaN or an infinity; none if
// all are finite. About a microsecond for 16 rows of 576 values in cache.
std::optional<uint64_t> FirstNonFiniteRow(const Bf16* rows, uint64_t row_count, uint32_t row_width);

// The same for `record_count` consecutive records of either format. An fp8 record is not finite
// when it holds an e4m3 NaN, a scale that is not finite or so large that 448 * scale is not, or a
// rope value that is not finite.
std::optional<uint64_t> FirstNonFiniteRecord(const Geometry& geometry, RecordFormat format,
                                             const std::byte* records, uint64_t record_count);

}  // namespace latentd

#endif  // LATENTD_KERNELS_RECORDS_H_
