// Scalar conversions between fp8 and fp32, in the e4m3 variant without infinities ("e4m3fn"): sign,
// 4 bits of exponent with bias 7, 3 bits of mantissa; largest value 448; 0x7f and 0xff are NaN.
//
// Pure functions: any thread.
#ifndef LATENTD_KERNELS_FP8_H_
#define LATENTD_KERNELS_FP8_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace latentd {

inline constexpr float kFp8Max = 448.0f;
inline constexpr uint8_t kFp8Nan = 0x7f;

// Exact.
inline float Fp8ToFloat(uint8_t bits) {
  const int exponent = bits >> 3 & 0xf;
  const int mantissa = bits & 0x7;
  float magnitude;
  if ((bits & 0x7f) == kFp8Nan) {
    magnitude = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -9);
  } else {
    magnitude = std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  }
  return bits & 0x80 ? -magnitude : magnitude;
}

// Rounds to nearest, ties to even, and saturates at +-448 (infinities too); NaN becomes NaN.
inline uint8_t FloatToFp8(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | kFp8Nan;
  const float magnitude = std::fabs(value);
  if (magnitude >= kFp8Max) return sign | 0x7e;
  // The spacing of e4m3 values here: 2^(exponent - 3), and 2^-9 below the smallest normal 2^-6.
  const int exponent = magnitude < 0x1p-6f ? -6 : std::ilogb(magnitude);
  // nearbyint of a value in [0, 16]: exact scaling, so this is the only rounding. REQUIRES the
  // default rounding mode.
  const int steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 3 - exponent)));
  // A normal has steps in [8, 16]; 16 carries into the next exponent by itself.
  return sign | static_cast<uint8_t>((exponent + 6) * 8 + steps);
}

}  // namespace latentd

#endif  // LATENTD_KERNELS_FP8_H_
