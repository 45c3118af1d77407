// Conversion of whole records between the bf16 and the fp8 format.
//
// Each run of kFp8ScaleWidth latent values gets the smallest power of two as its scale that keeps
// every value within e4m3's 448. Powers of two make the scaling itself exact, so that quantising a
// record that e4m3 already represents changes nothing. The rope part is copied. Relative error of a
// latent value: at most 2^-4 of it, or 2^-10 of its scale if it is small beside its run's largest.
// (Beyond 448 * 2^119, about 3e38, values saturate.)
//
// Pure functions: any thread. Nothing here allocates.
#ifndef LATENTD_KERNELS_QUANTIZE_H_
#define LATENTD_KERNELS_QUANTIZE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/mla.h"

namespace latentd {

// bf16 records [count] -> fp8 records [count]. REQUIRES: a geometry valid for fp8, finite records
// (FirstNonFiniteRecord), buffers that do not overlap.
void QuantizeRecords(const Geometry& geometry, const std::byte* bf16_records, uint64_t count,
                     std::byte* fp8_records);

// fp8 records [count] -> bf16 records [count], each value rounded to nearest even (exact when the
// scales are powers of two, as QuantizeRecords makes them).
void DequantizeRecords(const Geometry& geometry, const std::byte* fp8_records, uint64_t count,
                       std::byte* bf16_records);

}  // namespace latentd

#endif  // LATENTD_KERNELS_QUANTIZE_H_
