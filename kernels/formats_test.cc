#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "kernels/bf16.h"
#include "kernels/fp8.h"

namespace latentd {
namespace {

TEST_CASE("every bf16 value survives a round trip through fp32") {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const Bf16 value{static_cast<uint16_t>(bits)};
    const Bf16 back = FloatToBf16(Bf16ToFloat(value));
    if (std::isnan(Bf16ToFloat(value))) {
      REQUIRE(std::isnan(Bf16ToFloat(back)));
    } else {
      REQUIRE(back.bits == value.bits);
    }
    REQUIRE(IsFinite(value) == std::isfinite(Bf16ToFloat(value)));
  }
}

TEST_CASE("fp32 rounds to the nearest bf16, ties to even") {
  for (uint32_t bits = 0; bits < 0x7f7f; bits += 3) {
    const float low = Bf16ToFloat(Bf16{static_cast<uint16_t>(bits)});
    const float high = Bf16ToFloat(Bf16{static_cast<uint16_t>(bits + 1)});
    const float middle = low + (high - low) / 2;
    REQUIRE(FloatToBf16(std::nextafter(middle, low)).bits == bits);
    REQUIRE(FloatToBf16(std::nextafter(middle, high)).bits == bits + 1);
    REQUIRE(FloatToBf16(middle).bits == (bits % 2 == 0 ? bits : bits + 1));
    REQUIRE(FloatToBf16(-middle).bits == (0x8000 | (bits % 2 == 0 ? bits : bits + 1)));
  }
  REQUIRE(FloatToBf16(std::numeric_limits<float>::max()).bits == 0x7f80);
  REQUIRE(Bf16ToFloat(FloatToBf16(kBf16Max)) == kBf16Max);
}

TEST_CASE("every e4m3 value survives a round trip through fp32") {
  for (uint32_t bits = 0; bits <= 0xff; ++bits) {
    const auto value = static_cast<uint8_t>(bits);
    REQUIRE(FloatToFp8(Fp8ToFloat(value)) == value);
  }
  REQUIRE(Fp8ToFloat(0x7e) == 448.0f);
  REQUIRE(Fp8ToFloat(0x01) == 0x1p-9f);
  REQUIRE(Fp8ToFloat(0x08) == 0x1p-6f);
  REQUIRE(Fp8ToFloat(0x38) == 1.0f);
  REQUIRE(std::isnan(Fp8ToFloat(0x7f)));
  REQUIRE(std::isnan(Fp8ToFloat(0xff)));
}

TEST_CASE("fp32 rounds to the nearest e4m3, ties to even, and saturates") {
  for (uint8_t bits = 0; bits < 0x7e; ++bits) {
    const float low = Fp8ToFloat(bits);
    const float high = Fp8ToFloat(bits + 1);
    const float middle = low + (high - low) / 2;
    REQUIRE(FloatToFp8(std::nextafter(middle, low)) == bits);
    REQUIRE(FloatToFp8(std::nextafter(middle, high)) == bits + 1);
    REQUIRE(FloatToFp8(middle) == (bits % 2 == 0 ? bits : bits + 1));
    REQUIRE(FloatToFp8(-middle) == (0x80 | (bits % 2 == 0 ? bits : bits + 1)));
  }
  REQUIRE(FloatToFp8(1e30f) == 0x7e);
  REQUIRE(FloatToFp8(-std::numeric_limits<float>::infinity()) == 0xfe);
}

}  // namespace
}  // namespace latentd
