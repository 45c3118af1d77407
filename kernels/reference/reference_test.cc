#include "kernels/reference/reference.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/bf16.h"

namespace latentd {
namespace {

// Two latent values and no rope; one page, one layer.
constexpr Geometry kGeometry{2, 0};

struct World {
  World() : records(kPageTokens * 2, Bf16{0x7fc0}) {
    SetRecord(0, 1, 2);
    SetRecord(1, 3, -4);
    SetRecord(2, 0, 5);
  }
  void SetRecord(uint32_t token, float a, float b) {
    records[2 * token] = FloatToBf16(a);
    records[2 * token + 1] = FloatToBf16(b);
  }
  CacheView cache() const { return {reinterpret_cast<const std::byte*>(records.data()), 256, 256}; }
  Problem Ask(uint32_t tokens, bool causal, uint32_t visible, uint32_t after = 0) {
    segment = {&page, visible, after};
    group = {0, tokens, 0, 1, causal};
    rows.assign(tokens * 2, FloatToBf16(0.5f));
    out.assign(tokens * 2, -1);
    lse.assign(tokens, -1);
    return {.tokens = tokens,
            .heads = 1,
            .scale = 2,
            .groups = {&group, 1},
            .segments = {&segment, 1},
            .rows = rows.data(),
            .out_format = OutFormat::kFp32,
            .out = out.data(),
            .lse = lse.data()};
  }

  uint32_t page = 0;
  std::vector<Bf16> records;
  Segment segment;
  Group group;
  std::vector<Bf16> rows;
  std::vector<float> out;
  std::vector<float> lse;
};

// With rows (0.5, 0.5) and scale 2 a record's logit is the sum of its two values: 3, -1 and 5.
TEST_CASE("attention over three records is what the formula says") {
  World world;
  ReferenceAttend(kGeometry, RecordFormat::kBf16, world.cache(), world.Ask(1, false, 3));
  const double sum = std::exp(3.0) + std::exp(-1.0) + std::exp(5.0);
  REQUIRE(world.lse[0] == Approx(std::log(sum)));
  REQUIRE(world.out[0] == Approx((std::exp(3.0) * 1 + std::exp(-1.0) * 3) / sum));
  REQUIRE(world.out[1] ==
          Approx((std::exp(3.0) * 2 - std::exp(-1.0) * 4 + std::exp(5.0) * 5) / sum));
}

TEST_CASE("one record answers itself and its logit") {
  World world;
  ReferenceAttend(kGeometry, RecordFormat::kBf16, world.cache(), world.Ask(1, false, 1));
  REQUIRE(world.lse[0] == 3);
  REQUIRE(world.out == std::vector<float>{1, 2});
}

TEST_CASE("a causal group's tokens see one record more each, and nothing is zero and -inf") {
  World world;
  ReferenceAttend(kGeometry, RecordFormat::kBf16, world.cache(), world.Ask(3, true, 2));
  REQUIRE(world.lse[0] == -std::numeric_limits<float>::infinity());
  REQUIRE(world.out[0] == 0);
  REQUIRE(world.out[1] == 0);
  REQUIRE(world.lse[1] == 3);
  REQUIRE(world.lse[2] == Approx(std::log(std::exp(3.0) + std::exp(-1.0))));
}

TEST_CASE("records that follow elsewhere are lost before those here") {
  World world;
  ReferenceAttend(kGeometry, RecordFormat::kBf16, world.cache(), world.Ask(3, true, 3, 1));
  REQUIRE(world.lse[0] == Approx(std::log(std::exp(3.0) + std::exp(-1.0))));
  REQUIRE(world.lse[1] == world.lse[2]);
}

}  // namespace
}  // namespace latentd
