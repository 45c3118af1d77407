#include "kernels/quantize.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/fp8.h"
#include "kernels/records.h"

namespace latentd {
namespace {

constexpr Geometry kGeometry{256, 16};
constexpr uint64_t kCount = 5;

using Bytes = std::vector<std::byte>;

// Records whose blocks differ by many orders of magnitude, some of them zero.
Bytes RandomRecords(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> exponent(-60, 60);
  std::vector<Bf16> values(kCount * kGeometry.row_width());
  int block_exponent = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i % 64 == 0) block_exponent = exponent(random);
    values[i] =
        FloatToBf16(block_exponent > 50 ? 0.0f : std::ldexp(normal(random), block_exponent));
  }
  Bytes bytes(values.size() * sizeof(Bf16));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

Bytes Quantize(const Bytes& bf16) {
  Bytes fp8(kCount * RecordBytes(kGeometry, RecordFormat::kFp8));
  QuantizeRecords(kGeometry, bf16.data(), kCount, fp8.data());
  return fp8;
}

Bytes Dequantize(const Bytes& fp8) {
  Bytes bf16(kCount * RecordBytes(kGeometry, RecordFormat::kBf16));
  DequantizeRecords(kGeometry, fp8.data(), kCount, bf16.data());
  return bf16;
}

float Scale(const Bytes& fp8, uint64_t record, uint32_t block) {
  float scale;
  std::memcpy(&scale,
              fp8.data() + record * RecordBytes(kGeometry, RecordFormat::kFp8) +
                  Fp8ScalesOffset(kGeometry) + block * sizeof(float),
              sizeof(scale));
  return scale;
}

TEST_CASE("quantising loses at most an e4m3 rounding, and nothing of the rope part") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    const Bytes original = RandomRecords(seed);
    const Bytes fp8 = Quantize(original);
    REQUIRE_FALSE(
        FirstNonFiniteRecord(kGeometry, RecordFormat::kFp8, fp8.data(), kCount).has_value());
    for (uint64_t i = 0; i < kCount; ++i) {
      std::vector<float> before(kGeometry.row_width()), after(kGeometry.row_width());
      DecodeRecord(kGeometry, RecordFormat::kBf16,
                   original.data() + i * RecordBytes(kGeometry, RecordFormat::kBf16), before);
      DecodeRecord(kGeometry, RecordFormat::kFp8,
                   fp8.data() + i * RecordBytes(kGeometry, RecordFormat::kFp8), after);
      for (uint32_t k = 0; k < kGeometry.row_width(); ++k) {
        const float bound = k >= kGeometry.latent_width
                                ? 0
                                : std::max(std::fabs(before[k]) * 0x1p-4f,
                                           Scale(fp8, i, k / kFp8ScaleWidth) * 0x1p-10f);
        REQUIRE(std::fabs(after[k] - before[k]) <= bound);
      }
    }
  }
}

TEST_CASE("scales are powers of two, as small as 448 allows") {
  const Bytes original = RandomRecords(3);
  const Bytes fp8 = Quantize(original);
  for (uint64_t i = 0; i < kCount; ++i) {
    std::vector<float> values(kGeometry.row_width());
    DecodeRecord(kGeometry, RecordFormat::kBf16,
                 original.data() + i * RecordBytes(kGeometry, RecordFormat::kBf16), values);
    for (uint32_t block = 0; block < 2; ++block) {
      float amax = 0;
      for (uint32_t k = 0; k < kFp8ScaleWidth; ++k) {
        amax = std::max(amax, std::fabs(values[block * kFp8ScaleWidth + k]));
      }
      const float scale = Scale(fp8, i, block);
      int exponent;
      REQUIRE(std::frexp(scale, &exponent) == 0.5f);
      REQUIRE(amax / scale <= kFp8Max);
      if (amax > 0) REQUIRE(amax / scale > kFp8Max / 2);
    }
  }
}

TEST_CASE("a record that fp8 represents comes back bit for bit, and quantises to the same bits") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    const Bytes fp8 = Quantize(RandomRecords(seed));
    const Bytes representable = Dequantize(fp8);
    const Bytes again = Quantize(representable);
    REQUIRE(Dequantize(again) == representable);
    REQUIRE(Quantize(Dequantize(again)) == again);
  }
}

TEST_CASE("zero, the largest and the smallest bf16 values quantise without overflow") {
  for (uint16_t bits :
       {uint16_t{0x0000}, uint16_t{0x7f7f}, uint16_t{0xff7f}, uint16_t{0x0001}, uint16_t{0x0080}}) {
    CAPTURE(bits);
    std::vector<Bf16> values(kCount * kGeometry.row_width(), Bf16{bits});
    Bytes bytes(values.size() * sizeof(Bf16));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    const Bytes fp8 = Quantize(bytes);
    REQUIRE_FALSE(
        FirstNonFiniteRecord(kGeometry, RecordFormat::kFp8, fp8.data(), kCount).has_value());
    std::vector<float> decoded(kGeometry.row_width());
    DecodeRecord(kGeometry, RecordFormat::kFp8, fp8.data(), decoded);
    const float value = Bf16ToFloat(Bf16{bits});
    REQUIRE(std::fabs(decoded[0] - value) <= std::max(std::fabs(value) / 8, 0x1p-136f));
  }
}

}  // namespace
}  // namespace latentd
