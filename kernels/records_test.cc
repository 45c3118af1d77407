#include "kernels/records.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/fp8.h"

namespace latentd {
namespace {

constexpr Geometry kUsual{512, 64};

std::vector<Bf16> FiniteRows(uint64_t rows, uint32_t width) {
  std::vector<Bf16> values(rows * width);
  for (size_t i = 0; i < values.size(); ++i) {
    // Every finite bit pattern comes by: large, subnormal, negative.
    values[i].bits = static_cast<uint16_t>(i * 40503u);
    if (!IsFinite(values[i])) values[i].bits &= 0x80ff;
  }
  return values;
}

TEST_CASE("finite rows pass the check, whatever their size") {
  for (uint32_t width : {1u, 7u, 64u, 576u}) {
    for (uint64_t rows : {0u, 1u, 3u, 16u}) {
      const std::vector<Bf16> values = FiniteRows(rows, width);
      REQUIRE_FALSE(FirstNonFiniteRow(values.data(), rows, width).has_value());
    }
  }
}

TEST_CASE("the first row with a NaN or an infinity is found wherever it is in the row") {
  constexpr uint32_t kWidth = 150;
  for (uint16_t bits : {uint16_t{0x7f80}, uint16_t{0xff80}, uint16_t{0x7fc0}, uint16_t{0xffff}}) {
    for (uint32_t column = 0; column < kWidth; ++column) {
      std::vector<Bf16> values = FiniteRows(5, kWidth);
      values[3 * kWidth + column].bits = bits;
      values[4 * kWidth].bits = bits;
      REQUIRE(FirstNonFiniteRow(values.data(), 5, kWidth) == uint64_t{3});
    }
  }
}

TEST_CASE("the check of a query's rows takes about a microsecond") {
  const std::vector<Bf16> rows = FiniteRows(16, 576);
  double best_us = 1e9;
  for (int i = 0; i < 1000; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const bool finite = !FirstNonFiniteRow(rows.data(), 16, 576).has_value();
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
    REQUIRE(finite);
    best_us = std::min(best_us, time.count());
  }
  // Far above what it takes, for sanitizers and busy machines; a scalar loop takes ten times as
  // long.
  CHECK(best_us < 50);
  UNSCOPED_INFO(best_us << " us");
}

class Fp8Records {
 public:
  explicit Fp8Records(uint64_t count)
      : bytes_(count * RecordBytes(kUsual, RecordFormat::kFp8), std::byte{0x7e}) {
    for (uint64_t i = 0; i < count; ++i) {
      for (uint32_t block = 0; block < 4; ++block)
        SetScale(i, block, 0.25f * (1 + static_cast<float>(block)));
      for (uint32_t k = 0; k < 64; ++k) SetRope(i, k, FloatToBf16(static_cast<float>(k)));
    }
  }
  std::byte* record(uint64_t i) {
    return bytes_.data() + i * RecordBytes(kUsual, RecordFormat::kFp8);
  }
  void SetScale(uint64_t i, uint32_t block, float scale) {
    std::memcpy(record(i) + 512 + 4 * block, &scale, 4);
  }
  void SetRope(uint64_t i, uint32_t k, Bf16 value) {
    std::memcpy(record(i) + 528 + 2 * k, &value, 2);
  }
  std::optional<uint64_t> FirstNonFinite() {
    return FirstNonFiniteRecord(kUsual, RecordFormat::kFp8, bytes_.data(),
                                bytes_.size() / RecordBytes(kUsual, RecordFormat::kFp8));
  }

 private:
  std::vector<std::byte> bytes_;
};

TEST_CASE("an fp8 record with an e4m3 NaN, a bad scale or a bad rope value is found") {
  REQUIRE_FALSE(Fp8Records(3).FirstNonFinite().has_value());
  for (std::byte nan : {std::byte{0x7f}, std::byte{0xff}}) {
    for (uint32_t k : {0u, 200u, 511u}) {
      Fp8Records records(3);
      records.record(1)[k] = nan;
      REQUIRE(records.FirstNonFinite() == uint64_t{1});
    }
  }
  for (float scale : {std::numeric_limits<float>::infinity(), std::nanf(""), 1e37f}) {
    Fp8Records records(3);
    records.SetScale(2, 3, scale);
    REQUIRE(records.FirstNonFinite() == uint64_t{2});
  }
  Fp8Records records(3);
  records.SetRope(0, 63, Bf16{0xff80});
  REQUIRE(records.FirstNonFinite() == uint64_t{0});
}

TEST_CASE("a bf16 record is checked as a row") {
  std::vector<Bf16> values = FiniteRows(4, kUsual.row_width());
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  REQUIRE_FALSE(FirstNonFiniteRecord(kUsual, RecordFormat::kBf16, bytes, 4).has_value());
  values[2 * kUsual.row_width() + 575].bits = 0x7f80;
  REQUIRE(FirstNonFiniteRecord(kUsual, RecordFormat::kBf16, bytes, 4) == uint64_t{2});
}

TEST_CASE("records of either format decode to their values") {
  std::vector<float> values(kUsual.row_width());
  std::vector<Bf16> bf16(kUsual.row_width(), FloatToBf16(-1.5f));
  DecodeRecord(kUsual, RecordFormat::kBf16, reinterpret_cast<const std::byte*>(bf16.data()),
               values);
  REQUIRE(values == std::vector<float>(kUsual.row_width(), -1.5f));

  Fp8Records fp8(1);
  DecodeRecord(kUsual, RecordFormat::kFp8, fp8.record(0), values);
  REQUIRE(values[0] == 448 * 0.25f);
  REQUIRE(values[127] == 448 * 0.25f);
  REQUIRE(values[128] == 448 * 0.5f);
  REQUIRE(values[511] == 448 * 1.0f);
  REQUIRE(values[512] == 0.0f);
  REQUIRE(values[575] == 63.0f);
}

TEST_CASE("a record's address follows the page table, the layer and the token") {
  const CacheView cache{reinterpret_cast<const std::byte*>(0x1000), 1 << 20, 1 << 17};
  const uint32_t pages[] = {7, 2};
  REQUIRE(RecordAddress(kUsual, RecordFormat::kBf16, cache, pages, 3, 65) ==
          cache.arena + (2 << 20) + 3 * (1 << 17) + 1152);
}

}  // namespace
}  // namespace latentd
