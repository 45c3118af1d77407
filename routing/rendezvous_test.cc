#include "routing/rendezvous.h"

#include <cmath>
#include <random>

#include <catch2/catch.hpp>

namespace latentd {
namespace {

double Units(uint64_t distance) { return std::ldexp(static_cast<double>(distance), -48); }

TEST_CASE("a distance is the negative base-2 logarithm of its hash") {
  CHECK(DistanceOf(uint64_t{1} << 63) == uint64_t{1} << 48);
  CHECK(DistanceOf(uint64_t{1} << 32) == uint64_t{32} << 48);
  CHECK(DistanceOf(1) == uint64_t{64} << 48);
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    const uint64_t hash = random() >> (i % 60);
    if (hash == 0) continue;
    const double expected = 64 - std::log2(static_cast<double>(hash));
    REQUIRE(std::abs(Units(DistanceOf(hash)) - expected) < 2e-7);
  }
}

TEST_CASE("a distance is never zero, nor is any hash without one") {
  CHECK(DistanceOf(~uint64_t{0}) >= 1);
  CHECK(DistanceOf(0) == DistanceOf(1));
}

TEST_CASE("a larger hash is never farther") {
  std::mt19937_64 random(2);
  for (int i = 0; i < 100000; ++i) {
    const uint64_t hash = random() >> (i % 64);
    if (hash == ~uint64_t{0}) continue;
    REQUIRE(DistanceOf(hash + 1) <= DistanceOf(hash));
  }
  for (uint64_t point = 0; point < 1024; ++point) {  // at the joints of the pieces
    const uint64_t hash = (uint64_t{1} << 63) + (point << 53);
    REQUIRE(DistanceOf(hash) <= DistanceOf(hash - 1));
  }
}

TEST_CASE("the largest weights do not overflow a comparison") {
  const uint64_t most = ~uint64_t{0};
  CHECK(Beats({DistanceOf(2), most}, {DistanceOf(1), most}));
  CHECK_FALSE(Beats({DistanceOf(1), most}, {DistanceOf(2), most}));
  CHECK(Beats({DistanceOf(1), most}, {DistanceOf(2), 1}));
}

TEST_CASE("of equal bids neither beats the other, and no weight beats nothing") {
  CHECK_FALSE(Beats({5, 3}, {5, 3}));
  CHECK_FALSE(Beats({5, 3}, {10, 6}));
  CHECK_FALSE(Beats({1, 0}, {5, 3}));
  CHECK(Beats({5, 3}, {1, 0}));
}

}  // namespace
}  // namespace latentd
