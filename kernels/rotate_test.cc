#include "kernels/rotate.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "hwy/targets.h"
#include "kernels/bf16.h"
#include "kernels/records.h"
#include "kernels/rope.h"

namespace latentd {
namespace {

// Half a unit in the last place of bf16, relative, at most: rounding's error.
constexpr double kHalfUnit = 0x1p-8;

struct OnlyTarget {
  explicit OnlyTarget(int64_t target) { Set(target); }
  ~OnlyTarget() { Set(0); }
  static void Set(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

struct Pair {
  uint32_t x;
  uint32_t y;
};
Pair PairAt(const RopeSpec& spec, uint32_t pair) {
  if (spec.pairs == RopePairs::kInterleaved) return {2 * pair, 2 * pair + 1};
  return {pair, pair + spec.width / 2};
}

Rope MakeRope(const RopeSpec& spec) {
  auto rope = Rope::Make(spec);
  REQUIRE(rope.ok());
  return *std::move(rope);
}

// `values` [width] rotated to `position`, in fp64.
std::vector<double> At(const RopeSpec& spec, const std::vector<double>& values, int64_t position) {
  const Rope rope = MakeRope(spec);
  std::vector<double> rotated(values.size());
  for (uint32_t i = 0; i < spec.width / 2; ++i) {
    const double angle = static_cast<double>(position) * static_cast<double>(rope.frequencies()[i]);
    const auto [x, y] = PairAt(spec, i);
    rotated[x] = values[x] * std::cos(angle) - values[y] * std::sin(angle);
    rotated[y] = values[x] * std::sin(angle) + values[y] * std::cos(angle);
  }
  return rotated;
}

std::vector<double> Random(uint32_t count, std::mt19937& random) {
  std::normal_distribution<double> normal;
  std::vector<double> values(count);
  for (double& value : values) value = normal(random);
  return values;
}

// A row whose rope part is `rope` and whose latent values are random.
std::vector<Bf16> Row(const Geometry& g, const std::vector<double>& rope, std::mt19937& random) {
  std::vector<Bf16> row;
  for (double value : Random(g.latent_width, random)) {
    row.push_back(FloatToBf16(static_cast<float>(value)));
  }
  for (double value : rope) row.push_back(FloatToBf16(static_cast<float>(value)));
  return row;
}

double RopeValue(const Geometry& g, const Bf16* row, uint32_t i) {
  return static_cast<double>(Bf16ToFloat(row[g.latent_width + i]));
}

bool SameBits(const std::vector<Bf16>& a, const std::vector<Bf16>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(Bf16)) == 0;
}

std::vector<RopeSpec> Specs() {
  std::vector<RopeSpec> specs;
  for (const RopePairs pairs : {RopePairs::kInterleaved, RopePairs::kHalves}) {
    specs.push_back({.width = 64, .pairs = pairs, .theta = 1e6});
    specs.push_back(
        {.width = 64, .pairs = pairs, .theta = 10000, .yarn_factor = 40, .original_context = 4096});
    // Widths of no whole vectors, and of many.
    specs.push_back({.width = 2, .pairs = pairs});
    specs.push_back({.width = 38, .pairs = pairs});
    specs.push_back({.width = 256, .pairs = pairs});
  }
  return specs;
}

void CheckRotatedEqualsRecomputed() {
  std::mt19937 random(7);
  std::uniform_int_distribution<int64_t> anywhere(0, 163839);
  for (const RopeSpec& spec : Specs()) {
    const Geometry g{128, spec.width};
    const Rope rope = MakeRope(spec);
    for (int round = 0; round < 20; ++round) {
      const int64_t made = anywhere(random), used = anywhere(random);
      CAPTURE(spec.width, static_cast<int>(spec.pairs), spec.yarn_factor, made, used);
      const auto key = Random(spec.width, random);
      const auto made_rope = At(spec, key, made);
      const auto expected = At(spec, key, used);
      const auto record = Row(g, made_rope, random);
      auto rotated = record;
      RotateRows(g, *rope.RotationBy(used - made), record.data(), 1, rotated.data());
      CHECK(std::memcmp(rotated.data(), record.data(), g.latent_width * sizeof(Bf16)) == 0);
      for (uint32_t i = 0; i < spec.width / 2; ++i) {
        const auto [x, y] = PairAt(spec, i);
        // Rounded once when the record was made, and once more now.
        const double first = kHalfUnit * std::hypot(made_rope[x], made_rope[y]);
        for (const uint32_t v : {x, y}) {
          CHECK(std::fabs(RopeValue(g, rotated.data(), v) - expected[v]) <=
                first + kHalfUnit * (std::fabs(expected[v]) + first) + 1e-6);
        }
      }
    }
  }
}

TEST_CASE("a record rotated to another position is the one made there, within bf16's rounding") {
  CheckRotatedEqualsRecomputed();
}

TEST_CASE("every instruction set that this machine has rotates alike") {
  const int64_t supported = hwy::SupportedTargets();
  for (const int64_t target : {int64_t{HWY_SCALAR}, int64_t{HWY_AVX2}, int64_t{HWY_AVX3}}) {
    if ((supported & target) == 0) continue;
    CAPTURE(target);
    const OnlyTarget only(target);
    CheckRotatedEqualsRecomputed();
  }
}

TEST_CASE("a query rotated back sees what records rotated forward show") {
  std::mt19937 random(8);
  std::uniform_int_distribution<int64_t> anywhere(0, 163839);
  for (const RopeSpec& spec : Specs()) {
    const Geometry g{128, spec.width};
    const Rope rope = MakeRope(spec);
    for (int round = 0; round < 20; ++round) {
      const int64_t made = anywhere(random), used = anywhere(random), asked = anywhere(random);
      const int64_t shift = used - made;
      CAPTURE(spec.width, static_cast<int>(spec.pairs), made, used, asked);
      const auto key = Random(spec.width, random), query = Random(spec.width, random);
      const auto record = Row(g, At(spec, key, made), random);
      const auto row = Row(g, At(spec, query, asked), random);
      auto turned_record = record, turned_row = row;
      RotateRows(g, *rope.RotationBy(shift), record.data(), 1, turned_record.data());
      RotateRows(g, *rope.RotationBy(-shift), row.data(), 1, turned_row.data());
      const auto exact_key = At(spec, key, used), exact_query = At(spec, query, asked);
      double by_query = 0, by_record = 0, exact = 0, key_norm = 0, query_norm = 0;
      for (uint32_t i = 0; i < spec.width; ++i) {
        by_query += RopeValue(g, turned_row.data(), i) * RopeValue(g, record.data(), i);
        by_record += RopeValue(g, row.data(), i) * RopeValue(g, turned_record.data(), i);
        exact += exact_query[i] * exact_key[i];
        key_norm += exact_key[i] * exact_key[i];
        query_norm += exact_query[i] * exact_query[i];
      }
      // Three roundings: the key's, the query's and the rotated one's.
      const double bound = 3.02 * kHalfUnit * std::sqrt(key_norm * query_norm);
      CHECK(std::fabs(by_query - exact) <= bound);
      CHECK(std::fabs(by_record - exact) <= bound);
    }
  }
}

TEST_CASE("no shift changes no bit") {
  std::mt19937 random(9);
  const Geometry g{128, 64};
  // Zeros of both signs and subnormals as well.
  std::vector<Bf16> rows(3 * g.row_width());
  for (Bf16& value : rows) value.bits = static_cast<uint16_t>(random() & 0xbfff);
  auto in_place = rows;
  std::vector<Bf16> copy(rows.size());
  const Rotation none = *MakeRope({}).RotationBy(0);
  RotateRows(g, none, rows.data(), 3, copy.data());
  RotateRows(g, none, in_place.data(), 3, in_place.data());
  CHECK(SameBits(copy, rows));
  CHECK(SameBits(in_place, rows));
}

TEST_CASE("two rotations are the one by their sum, and one there and back changes little") {
  std::mt19937 random(10);
  std::uniform_int_distribution<int64_t> any(-80000, 80000);
  for (const RopeSpec& spec : Specs()) {
    const Geometry g{128, spec.width};
    const Rope rope = MakeRope(spec);
    for (int round = 0; round < 10; ++round) {
      const int64_t a = any(random), b = any(random);
      CAPTURE(spec.width, static_cast<int>(spec.pairs), a, b);
      const auto row = Row(g, Random(spec.width, random), random);
      auto twice = row, once = row, back = row;
      const auto turn = [&](int64_t shift, std::vector<Bf16>& rows) {
        RotateRows(g, *rope.RotationBy(shift), rows.data(), 1, rows.data());
      };
      turn(a, twice);
      turn(b, twice);
      turn(a + b, once);
      turn(a, back);
      turn(-a, back);
      for (uint32_t i = 0; i < spec.width / 2; ++i) {
        const auto [x, y] = PairAt(spec, i);
        const double norm = std::hypot(RopeValue(g, row.data(), x), RopeValue(g, row.data(), y));
        for (const uint32_t v : {x, y}) {
          CHECK(std::fabs(RopeValue(g, twice.data(), v) - RopeValue(g, once.data(), v)) <=
                3.02 * kHalfUnit * norm);
          CHECK(std::fabs(RopeValue(g, back.data(), v) - RopeValue(g, row.data(), v)) <=
                2.02 * kHalfUnit * norm);
        }
      }
    }
  }
}

TEST_CASE("the largest finite values stay finite") {
  const Geometry g{128, 64};
  std::vector<Bf16> row(g.row_width(), FloatToBf16(kBf16Max));
  for (const RopePairs pairs : {RopePairs::kInterleaved, RopePairs::kHalves}) {
    for (const int64_t shift : {1, -1, 1000}) {
      auto rotated = row;
      const Rope rope = MakeRope({.pairs = pairs});
      RotateRows(g, *rope.RotationBy(shift), row.data(), 1, rotated.data());
      CHECK_FALSE(FirstNonFiniteRow(rotated.data(), 1, g.row_width()).has_value());
    }
  }
}

TEST_CASE("a chunk's records are rotated in every layer up to its tokens, and nothing else") {
  const auto format = GENERATE(RecordFormat::kBf16, RecordFormat::kFp8);
  const Geometry g{128, 32};
  const RopeSpec spec{.width = 32};
  const Rotation rotation = *MakeRope(spec).RotationBy(-321);
  constexpr uint32_t kLayers = 3, kPages = 4, kTokens = 2 * kPageTokens + 5;
  const uint64_t record_bytes = RecordBytes(g, format);
  const uint64_t layer_bytes = kPageTokens * record_bytes;
  const uint64_t page_bytes = (kLayers + 1) * layer_bytes;  // one layer is not of the chunk
  std::mt19937 random(11);
  std::vector<std::byte> arena(kPages * page_bytes);
  // Finite bf16, whatever else.
  for (size_t i = 0; i < arena.size(); ++i) arena[i] = static_cast<std::byte>(random() & 0xbf);
  const auto before = arena;
  const std::vector<uint32_t> pages = {3, 0, 2};
  RotateChunk(g, format, rotation, {arena.data(), page_bytes, layer_bytes}, pages, kLayers,
              kTokens);

  auto expected = before;
  for (uint32_t t = 0; t < kTokens; ++t) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      std::byte* record = expected.data() + pages[t / kPageTokens] * page_bytes +
                          layer * layer_bytes + t % kPageTokens * record_bytes;
      // As a row without latent values.
      std::vector<Bf16> rope(g.rope_width);
      std::memcpy(rope.data(), record + RopeOffset(g, format), g.rope_width * sizeof(Bf16));
      RotateRows({0, g.rope_width}, rotation, rope.data(), 1, rope.data());
      std::memcpy(record + RopeOffset(g, format), rope.data(), g.rope_width * sizeof(Bf16));
    }
  }
  CHECK(arena == expected);
  CHECK(arena != before);
}

}  // namespace
}  // namespace latentd
