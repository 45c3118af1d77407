#include "kernels/records.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/bf16.h"
#include "kernels/fp8.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/records.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace latentd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Index of the first of `count` values whose bits under `mask` are all set; `count` if there is
// none. T: uint8_t (e4m3 NaN: mask 0x7f) or uint16_t (bf16 that is not finite: mask 0x7f80).
template <typename T>
HWY_INLINE uint64_t FirstSaturated(const T* HWY_RESTRICT values, uint64_t count, T mask) {
  const hn::ScalableTag<T> d;
  const uint64_t lanes = hn::Lanes(d);
  const auto m = hn::Set(d, mask);
  // Blocks of four vectors: one branch for them, and independent chains.
  uint64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const auto a = hn::And(m, hn::LoadU(d, values + i));
    const auto b = hn::And(m, hn::LoadU(d, values + i + lanes));
    const auto c = hn::And(m, hn::LoadU(d, values + i + 2 * lanes));
    const auto e = hn::And(m, hn::LoadU(d, values + i + 3 * lanes));
    const auto largest = hn::Max(hn::Max(a, b), hn::Max(c, e));
    if (!hn::AllFalse(d, hn::Eq(largest, m))) break;
  }
  for (; i < count; ++i) {
    if ((values[i] & mask) == mask) return i;
  }
  return count;
}

uint64_t FirstNonFiniteBf16(const uint16_t* values, uint64_t count) {
  return FirstSaturated<uint16_t>(values, count, kBf16ExponentMask);
}

uint64_t FirstFp8Nan(const uint8_t* values, uint64_t count) {
  return FirstSaturated<uint8_t>(values, count, kFp8Nan);
}

}  // namespace HWY_NAMESPACE
}  // namespace latentd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace latentd {
namespace {

HWY_EXPORT(FirstNonFiniteBf16);
HWY_EXPORT(FirstFp8Nan);

bool Fp8RecordIsFinite(const Geometry& g, const std::byte* record) {
  const auto* latent = reinterpret_cast<const uint8_t*>(record);
  if (HWY_DYNAMIC_DISPATCH(FirstFp8Nan)(latent, g.latent_width) != g.latent_width) return false;
  for (uint32_t block = 0; block < g.latent_width / kFp8ScaleWidth; ++block) {
    float scale;
    std::memcpy(&scale, record + Fp8ScalesOffset(g) + block * sizeof(float), sizeof(scale));
    if (!(std::fabs(scale) <= std::numeric_limits<float>::max() / kFp8Max)) return false;
  }
  const auto* rope = reinterpret_cast<const uint16_t*>(record + Fp8RopeOffset(g));
  return HWY_DYNAMIC_DISPATCH(FirstNonFiniteBf16)(rope, g.rope_width) == g.rope_width;
}

}  // namespace

void DecodeRecord(const Geometry& geometry, RecordFormat format, const std::byte* record,
                  std::span<float> values) {
  const std::byte* bf16_part = record;
  uint32_t bf16_first = 0;
  if (format == RecordFormat::kFp8) {
    for (uint32_t i = 0; i < geometry.latent_width; ++i) {
      float scale;
      std::memcpy(&scale, record + Fp8ScalesOffset(geometry) + i / kFp8ScaleWidth * sizeof(float),
                  sizeof(scale));
      values[i] = Fp8ToFloat(static_cast<uint8_t>(record[i])) * scale;
    }
    bf16_part = record + Fp8RopeOffset(geometry);
    bf16_first = geometry.latent_width;
  }
  for (uint32_t i = bf16_first; i < geometry.row_width(); ++i) {
    Bf16 value;
    std::memcpy(&value, bf16_part + (i - bf16_first) * sizeof(Bf16), sizeof(value));
    values[i] = Bf16ToFloat(value);
  }
}

std::optional<uint64_t> FirstNonFiniteRow(const Bf16* rows, uint64_t row_count,
                                          uint32_t row_width) {
  const uint64_t count = row_count * row_width;
  const uint64_t first =
      HWY_DYNAMIC_DISPATCH(FirstNonFiniteBf16)(reinterpret_cast<const uint16_t*>(rows), count);
  if (first == count) return std::nullopt;
  return first / row_width;
}

std::optional<uint64_t> FirstNonFiniteRecord(const Geometry& geometry, RecordFormat format,
                                             const std::byte* records, uint64_t record_count) {
  if (format == RecordFormat::kBf16) {
    // A bf16 record is a row.
    return FirstNonFiniteRow(reinterpret_cast<const Bf16*>(records), record_count,
                             geometry.row_width());
  }
  const uint64_t record_bytes = RecordBytes(geometry, format);
  for (uint64_t i = 0; i < record_count; ++i) {
    if (!Fp8RecordIsFinite(geometry, records + i * record_bytes)) return i;
  }
  return std::nullopt;
}

}  // namespace latentd
#endif  // HWY_ONCE
