// Records and queries to fp32 in split order (see tile_kernels.h). Compiled once per instruction
// set.
#if defined(LATENTD_KERNELS_CPU_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LATENTD_KERNELS_CPU_DECODE_INL_H_
#undef LATENTD_KERNELS_CPU_DECODE_INL_H_
#else
#define LATENTD_KERNELS_CPU_DECODE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/cpu/blocks-inl.h"
#include "kernels/cpu/tile_kernels.h"
#include "kernels/records.h"

HWY_BEFORE_NAMESPACE();
namespace latentd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Value i of a part that starts at `part`, into split order.
HWY_INLINE void StoreSplit(float value, float* part, uint32_t i) {
  const uint32_t block = i / (2 * N()) * (2 * N());
  part[block + i % 2 * N() + (i - block) / 2] = value;
}

// Natural order [latent | rope] to split order [padded latent | padded rope], zeros in the padding.
HWY_INLINE void PadRow(const KernelShape& shape, const float* values, float* row) {
  std::fill(row, row + shape.padded_row, 0.0f);
  const Geometry& g = shape.geometry;
  for (uint32_t i = 0; i < g.latent_width; ++i) StoreSplit(values[i], row, i);
  for (uint32_t i = 0; i < g.rope_width; ++i) {
    StoreSplit(values[g.latent_width + i], row + shape.padded_latent, i);
  }
}

// `count` bf16 values (a multiple of kPadWidth) to split order.
HWY_INLINE void SplitBf16(const std::byte* values, uint32_t count, float* split) {
  const DF d;
  for (uint32_t k = 0; k < count; k += 2 * N()) {
    VF even, odd;
    DecodeBf16(values + k * sizeof(Bf16), even, odd);
    hn::Store(even, d, split + k);
    hn::Store(odd, d, split + k + N());
  }
}

// `count` e4m3 values times their scales to split order.
HWY_INLINE void SplitFp8(const std::byte* values, const std::byte* scales, uint32_t count,
                         float* split) {
  const DF d;
  for (uint32_t block = 0; block < count; block += kFp8ScaleWidth) {
    float scale;
    std::memcpy(&scale, scales + block / kFp8ScaleWidth * sizeof(float), sizeof(scale));
    const VF factor = hn::Set(d, 256.0f * scale);
    // Six records on, into the first-level cache: what the prefetches of a page ago did not bring,
    // too.
    __builtin_prefetch(values + block + 4096, 0, 3);
    __builtin_prefetch(values + block + 4096 + Ahead::kLineBytes, 0, 3);
    for (uint32_t k = block; k < block + kFp8ScaleWidth; k += 2 * N()) {
      VF even, odd;
      DecodeFp8(values + k, factor, even, odd);
      hn::Store(even, d, split + k);
      hn::Store(odd, d, split + k + N());
    }
  }
}

// Decodes the first `tokens` records of a page into scratch.records().
HWY_INLINE void DecodePage(const KernelShape& shape, const std::byte* page, uint32_t tokens,
                           TileScratch& scratch) {
  const Geometry& g = shape.geometry;
  for (uint32_t t = 0; t < tokens; ++t) {
    const std::byte* record = page + t * shape.record_bytes;
    float* row = scratch.records() + t * shape.padded_row;
    if (shape.path == RecordPath::kFp8) {
      SplitFp8(record, record + Fp8ScalesOffset(g), g.latent_width, row);
      SplitBf16(record + Fp8RopeOffset(g), g.rope_width, row + shape.padded_latent);
    } else {
      DecodeRecord(g, shape.format, record, {scratch.record(), g.row_width()});
      PadRow(shape, scratch.record(), row);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace latentd
HWY_AFTER_NAMESPACE();

#endif  // LATENTD_KERNELS_CPU_DECODE_INL_H_
