#include "kernels/rope.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>

namespace latentd {
namespace {

constexpr RopeSpec kDeepSeekV3{
    .width = 64, .theta = 10000, .yarn_factor = 40, .original_context = 4096};
constexpr RopeSpec kGlm5{.width = 64, .theta = 1e6};

Rope MakeRope(const RopeSpec& spec) {
  auto rope = Rope::Make(spec);
  INFO(rope.status().ToString());
  REQUIRE(rope.ok());
  return *std::move(rope);
}

TEST_CASE("without YaRN frequencies are the powers of theta") {
  const Rope rope = MakeRope(kGlm5);
  REQUIRE(rope.frequencies().size() == 32);
  for (size_t i = 0; i < 32; ++i) {
    const double expected = std::pow(1e6, -static_cast<double>(i) / 32);
    CHECK(rope.frequencies()[i] == Approx(expected).epsilon(3e-7));
  }
  CHECK(PositionsOf(kGlm5) == kMaxPositions);
}

TEST_CASE("YaRN leaves fast pairs, slows slow ones down by its factor, and blends between") {
  const Rope rope = MakeRope(kDeepSeekV3);
  // 32 turns within 4096 tokens are at pair 10.47, one turn at pair 22.51: the ramp is 10 to 23.
  for (size_t i = 0; i < 32; ++i) {
    const double plain = std::pow(1e4, -static_cast<double>(i) / 32);
    const double slow = i <= 10 ? 0 : i >= 23 ? 1 : (static_cast<double>(i) - 10) / 13;
    CAPTURE(i);
    CHECK(rope.frequencies()[i] == Approx(plain * (1 - slow) + plain / 40 * slow).epsilon(5e-7));
  }
  CHECK(PositionsOf(kDeepSeekV3) == 163840);
}

TEST_CASE("a ramp between equal betas is one pair wide") {
  // Kimi-K2: 64 ln(4096 / 2 pi) / (2 ln 5e4) = 19.16.
  constexpr RopeSpec kKimiK2{.width = 64,
                             .theta = 50000,
                             .yarn_factor = 32,
                             .original_context = 4096,
                             .yarn_beta_fast = 1,
                             .yarn_beta_slow = 1};
  const Rope rope = MakeRope(kKimiK2);
  for (size_t i = 0; i < 32; ++i) {
    const double plain = std::pow(5e4, -static_cast<double>(i) / 32);
    CHECK(rope.frequencies()[i] == Approx(i <= 19 ? plain : plain / 32).epsilon(5e-7));
  }
  CHECK(PositionsOf(kKimiK2) == 131072);
}

TEST_CASE("angles are right to the last bits of fp32 at any shift") {
  const Rope rope = MakeRope(kDeepSeekV3);
  for (const int64_t shift : {1, -1, 77, 4096, -163839, 163839}) {
    const auto rotation = rope.RotationBy(shift);
    REQUIRE(rotation.ok());
    CHECK_FALSE(rotation->identity());
    for (size_t i = 0; i < 32; ++i) {
      const long double angle =
          static_cast<long double>(shift) * static_cast<long double>(rope.frequencies()[i]);
      CHECK(std::fabs(rotation->cosines()[i] - static_cast<double>(std::cos(angle))) < 6.1e-8);
      CHECK(std::fabs(rotation->sines()[i] - static_cast<double>(std::sin(angle))) < 6.1e-8);
    }
  }
  CHECK(rope.RotationBy(0)->identity());
}

TEST_CASE("a shift beyond the model's positions is refused") {
  const Rope rope = MakeRope(kDeepSeekV3);
  for (const int64_t shift :
       {int64_t{163840}, int64_t{-163840}, int64_t{1} << 40, std::numeric_limits<int64_t>::min(),
        std::numeric_limits<int64_t>::max()}) {
    const auto rotation = rope.RotationBy(shift);
    INFO(rotation.status().ToString());
    CHECK(rotation.status().code() == absl::StatusCode::kOutOfRange);
    CHECK(CheckShift(kDeepSeekV3, shift).code() == absl::StatusCode::kOutOfRange);
  }
}

TEST_CASE("parameters that make no rotation are refused by name") {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto refused = [](RopeSpec spec, const char* name) {
    const absl::Status status = Rope::Make(spec).status();
    INFO(status.ToString());
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(CheckShift(spec, 1).code() == absl::StatusCode::kInvalidArgument);
    CHECK(std::string(status.message()).find(name) != std::string::npos);
  };
  CHECK(CheckShift(kDeepSeekV3, -163839).ok());
  CHECK(CheckShift({.width = 0}, 1).code() == absl::StatusCode::kFailedPrecondition);
  CHECK(Rope::Make({.width = 0}).status().code() == absl::StatusCode::kFailedPrecondition);
  refused({.width = 3}, "width");
  refused({.theta = 0.5}, "theta");
  refused({.theta = std::nan("")}, "theta");
  refused({.theta = infinity}, "theta");
  refused({.yarn_factor = 0.5}, "yarn_factor");
  refused({.theta = 1, .yarn_factor = 2, .original_context = 4096}, "theta");
  refused({.yarn_factor = 40}, "original_context");
  refused({.yarn_factor = 40, .original_context = 4096, .yarn_beta_fast = 0}, "yarn_beta_fast");
  refused({.yarn_factor = 40, .original_context = 4096, .yarn_beta_slow = infinity},
          "yarn_beta_slow");
}

}  // namespace
}  // namespace latentd
