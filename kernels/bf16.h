// Scalar conversions between bfloat16 and fp32. Vector code has its own (see kernels/cpu); these
// are for everything that is not on a hot path, and the definition that the vector code is tested
// against.
//
// Pure functions: any thread.
#ifndef LATENTD_KERNELS_BF16_H_
#define LATENTD_KERNELS_BF16_H_

#include <bit>
#include <cstdint>

#include "kernels/mla.h"

namespace latentd {

inline constexpr uint16_t kBf16ExponentMask = 0x7f80;
inline constexpr uint16_t kBf16QuietNan = 0x7fc0;
inline constexpr float kBf16Max = 0x1.fep127f;  // the largest finite value

// Exact.
constexpr float Bf16ToFloat(Bf16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

// Rounds to nearest, ties to even. Finite values beyond bf16's range become infinite, as IEEE
// rounding has it; NaNs stay NaNs of the same sign.
constexpr Bf16 FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return Bf16{static_cast<uint16_t>((bits >> 16 & 0x8000u) | kBf16QuietNan)};
  }
  // Just under half a unit, plus one when the kept part is odd: ties go to even.
  const uint32_t rounding = 0x7fffu + (bits >> 16 & 1u);
  return Bf16{static_cast<uint16_t>((bits + rounding) >> 16)};
}

constexpr bool IsFinite(Bf16 value) {
  return (value.bits & kBf16ExponentMask) != kBf16ExponentMask;
}

}  // namespace latentd

#endif  // LATENTD_KERNELS_BF16_H_
