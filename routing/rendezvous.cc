#include "routing/rendezvous.h"

// Inlined, a bid takes less than half the time: AssignSlots makes 65 million for a thousand nodes.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <bit>

namespace latentd {
namespace {

__extension__ using Uint128 = unsigned __int128;

constexpr int kTableBits = 10;
constexpr int kTableSize = 1 << kTableBits;

// log2(mantissa / 2^63) for a mantissa in [2^63, 2^64), truncated to kDistanceFractionBits:
// squaring doubles the logarithm, and each doubling brings one more binary digit before the point.
constexpr uint64_t Log2Fraction(uint64_t mantissa) {
  uint64_t result = 0;
  for (int bit = 0; bit < kDistanceFractionBits; ++bit) {
    const Uint128 square = static_cast<Uint128>(mantissa) * mantissa;  // in [2^126, 2^128)
    const bool carry = static_cast<bool>(square >> 127);
    mantissa = static_cast<uint64_t>(square >> (carry ? 64 : 63));
    result = result << 1 | static_cast<uint64_t>(carry);
  }
  return result;
}

// Entry i is log2(1 + i / kTableSize); the last is log2(2).
constexpr std::array<uint64_t, kTableSize + 1> MakeLog2Table() {
  std::array<uint64_t, kTableSize + 1> table{};
  for (uint64_t i = 0; i < kTableSize; ++i)
    table[i] = Log2Fraction((uint64_t{1} << 63) + (i << (63 - kTableBits)));
  table[kTableSize] = uint64_t{1} << kDistanceFractionBits;
  return table;
}

constexpr std::array<uint64_t, kTableSize + 1> kLog2Table = MakeLog2Table();

}  // namespace

uint64_t RendezvousSeed(std::string_view member_name) {
  return XXH3_64bits(member_name.data(), member_name.size());
}

uint64_t DistanceOf(uint64_t hash) {
  if (hash == 0) hash = 1;
  const int leading_zeros = std::countl_zero(hash);
  const uint64_t below_leading_one = hash << leading_zeros << 1;
  const uint64_t index = below_leading_one >> (64 - kTableBits);
  const uint64_t rest = below_leading_one << kTableBits;  // between two points, out of 2^64
  const uint64_t step = kLog2Table[index + 1] - kLog2Table[index];
  const uint64_t fraction =
      kLog2Table[index] + static_cast<uint64_t>(static_cast<Uint128>(step) * rest >> 64);
  // hash = 2^(63 - leading_zeros) * 2^fraction, and u = hash / 2^64.
  return (static_cast<uint64_t>(leading_zeros + 1) << kDistanceFractionBits) - fraction;
}

uint64_t HashOf(Slot slot, uint64_t seed) {
  const uint16_t number = ToInt(slot);
  const uint8_t bytes[4] = {static_cast<uint8_t>(number), static_cast<uint8_t>(number >> 8), 0, 0};
  return XXH3_64bits_withSeed(bytes, sizeof(bytes), seed);
}

Bid MakeBid(uint64_t member_seed, Slot slot, uint64_t weight) {
  return {DistanceOf(HashOf(slot, member_seed)), weight};
}

bool Beats(const Bid& a, const Bid& b) {
  return static_cast<Uint128>(a.distance) * b.weight < static_cast<Uint128>(b.distance) * a.weight;
}

}  // namespace latentd
