#include "kernels/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/bf16.h"
#include "kernels/fp8.h"
#include "kernels/records.h"

namespace latentd {
namespace {

Bf16 LoadBf16(const std::byte* values, uint64_t index) {
  Bf16 value;
  std::memcpy(&value, values + index * sizeof(Bf16), sizeof(Bf16));
  return value;
}

// The exponent of the smallest power of two s with amax / s <= 448, between two limits. Not below
// -126: a subnormal scale would cost its readers their fast paths and gains nothing, for what it
// could tell apart is below bf16's own smallest values. Not above 119: 448 * s has to be finite.
// Values beyond that saturate, bf16's largest by an eighth.
int ScaleExponent(float amax) {
  if (amax == 0) return 0;
  // amax = m * 2^e with m in [1, 2), and 448 = 1.75 * 2^8.
  const int e = std::ilogb(amax);
  const int exponent = std::ldexp(amax, -e) <= 1.75f ? e - 8 : e - 7;
  return std::clamp(exponent, -126, 119);
}

void QuantizeRecord(const Geometry& g, const std::byte* from, std::byte* to) {
  for (uint32_t block = 0; block < g.latent_width / kFp8ScaleWidth; ++block) {
    float values[kFp8ScaleWidth];
    float amax = 0;
    for (uint32_t i = 0; i < kFp8ScaleWidth; ++i) {
      values[i] = Bf16ToFloat(LoadBf16(from, block * kFp8ScaleWidth + i));
      amax = std::max(amax, std::fabs(values[i]));
    }
    const int exponent = ScaleExponent(amax);
    for (uint32_t i = 0; i < kFp8ScaleWidth; ++i) {
      to[block * kFp8ScaleWidth + i] =
          static_cast<std::byte>(FloatToFp8(std::ldexp(values[i], -exponent)));
    }
    const float scale = std::ldexp(1.0f, exponent);
    std::memcpy(to + Fp8ScalesOffset(g) + block * sizeof(float), &scale, sizeof(scale));
  }
  std::memcpy(to + Fp8RopeOffset(g), from + sizeof(Bf16) * g.latent_width,
              sizeof(Bf16) * g.rope_width);
}

void DequantizeRecord(const Geometry& g, const std::byte* from, std::byte* to) {
  for (uint32_t i = 0; i < g.latent_width; ++i) {
    float scale;
    std::memcpy(&scale, from + Fp8ScalesOffset(g) + i / kFp8ScaleWidth * sizeof(float),
                sizeof(scale));
    const Bf16 value = FloatToBf16(Fp8ToFloat(static_cast<uint8_t>(from[i])) * scale);
    std::memcpy(to + i * sizeof(Bf16), &value, sizeof(value));
  }
  std::memcpy(to + sizeof(Bf16) * g.latent_width, from + Fp8RopeOffset(g),
              sizeof(Bf16) * g.rope_width);
}

}  // namespace

void QuantizeRecords(const Geometry& geometry, const std::byte* bf16_records, uint64_t count,
                     std::byte* fp8_records) {
  for (uint64_t i = 0; i < count; ++i) {
    QuantizeRecord(geometry, bf16_records + i * RecordBytes(geometry, RecordFormat::kBf16),
                   fp8_records + i * RecordBytes(geometry, RecordFormat::kFp8));
  }
}

void DequantizeRecords(const Geometry& geometry, const std::byte* fp8_records, uint64_t count,
                       std::byte* bf16_records) {
  for (uint64_t i = 0; i < count; ++i) {
    DequantizeRecord(geometry, fp8_records + i * RecordBytes(geometry, RecordFormat::kFp8),
                     bf16_records + i * RecordBytes(geometry, RecordFormat::kBf16));
  }
}

}  // namespace latentd
