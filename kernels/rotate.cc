#include "kernels/rotate.h"

#include <algorithm>
#include <cstring>

#include "kernels/bf16.h"
#include "kernels/records.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rotate.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#ifndef LATENTD_KERNELS_ROTATE_PARTS_H_
#define LATENTD_KERNELS_ROTATE_PARTS_H_
namespace latentd {

// A rotation as the loops read it.
struct Turn {
  const float* cosines;
  const float* sines;
  uint32_t pairs;
};

// Rope parts `stride_bytes` apart.
struct RopeParts {
  std::byte* first;
  uint64_t stride_bytes;
  uint64_t count;
};

}  // namespace latentd
#endif  // LATENTD_KERNELS_ROTATE_PARTS_H_

HWY_BEFORE_NAMESPACE();
namespace latentd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;
using DU = hn::RebindToUnsigned<DF>;

// Parts lie too far apart for the machine's own prefetchers, which stay within a page. So many parts
// ahead, all lines of one.
constexpr uint64_t kAheadParts = 48;
constexpr uint64_t kLineBytes = 64;

// The baseline's "vectors" are single values, and it reads them where alignment matters.
constexpr bool kHasVectors = HWY_TARGET != HWY_SCALAR;

// Bits of the fp32 whose upper half is the bf16; the lower half is of no meaning.
HWY_INLINE hn::Vec<DU> Round(DF d, VF value) {
  const DU du;
  const VF limit = hn::Set(d, kBf16Max);
  const auto bits = hn::BitCast(du, hn::Clamp(value, hn::Neg(limit), limit));
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  return hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu)));
}

struct Turned {
  VF x;
  VF y;
};

HWY_INLINE Turned TurnPairs(VF x, VF y, VF cosine, VF sine) {
  return {hn::NegMulAdd(y, sine, hn::Mul(x, cosine)), hn::MulAdd(y, cosine, hn::Mul(x, sine))};
}

HWY_INLINE Bf16 LoadBf16(const std::byte* from) {
  Bf16 value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

HWY_INLINE void StoreBf16(float value, std::byte* to) {
  const Bf16 rounded = FloatToBf16(std::clamp(value, -kBf16Max, kBf16Max));
  std::memcpy(to, &rounded, sizeof(rounded));
}

HWY_INLINE void TurnOne(const Turn& turn, uint32_t pair, std::byte* x_at, std::byte* y_at) {
  const float x = Bf16ToFloat(LoadBf16(x_at));
  const float y = Bf16ToFloat(LoadBf16(y_at));
  StoreBf16(x * turn.cosines[pair] - y * turn.sines[pair], x_at);
  StoreBf16(x * turn.sines[pair] + y * turn.cosines[pair], y_at);
}

// A vector of pairs, each of them one 32-bit word.
HWY_INLINE void TurnWords(uint32_t* words, VF cosine, VF sine) {
  const DF d;
  const DU du;
  const auto upper = hn::Set(du, 0xffff0000u);
  const auto word = hn::LoadU(du, words);
  const auto turned = TurnPairs(hn::BitCast(d, hn::ShiftLeft<16>(word)),
                                hn::BitCast(d, hn::And(word, upper)), cosine, sine);
  hn::StoreU(hn::Or(hn::ShiftRight<16>(Round(d, turned.x)), hn::And(Round(d, turned.y), upper)), du,
             words);
}

HWY_INLINE void TurnInterleaved(const Turn& turn, std::byte* part) {
  const DF d;
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(d));
  uint32_t i = 0;
  for (; kHasVectors && i + lanes <= turn.pairs; i += lanes) {
    TurnWords(reinterpret_cast<uint32_t*>(part) + i, hn::LoadU(d, turn.cosines + i),
              hn::LoadU(d, turn.sines + i));
  }
  for (; i < turn.pairs; ++i) {
    std::byte* pair = part + i * 2 * sizeof(Bf16);
    TurnOne(turn, i, pair, pair + sizeof(Bf16));
  }
}

HWY_INLINE void TurnHalves(const Turn& turn, std::byte* part) {
  const DF d;
  const DU du;
  const hn::RebindToSigned<DF> di;
  const hn::Rebind<uint16_t, DF> dh;
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(d));
  std::byte* other = part + turn.pairs * sizeof(Bf16);
  const auto load = [&](const std::byte* from) {
    const auto half = hn::LoadU(dh, reinterpret_cast<const uint16_t*>(from));
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, half)));
  };
  const auto store = [&](VF values, std::byte* to) {
    const auto half = hn::BitCast(di, hn::ShiftRight<16>(Round(d, values)));
    hn::StoreU(hn::DemoteTo(dh, half), dh, reinterpret_cast<uint16_t*>(to));
  };
  uint32_t i = 0;
  for (; kHasVectors && i + lanes <= turn.pairs; i += lanes) {
    const uint64_t at = i * sizeof(Bf16);
    const auto turned = TurnPairs(load(part + at), load(other + at), hn::LoadU(d, turn.cosines + i),
                                  hn::LoadU(d, turn.sines + i));
    store(turned.x, part + at);
    store(turned.y, other + at);
  }
  for (; i < turn.pairs; ++i) {
    TurnOne(turn, i, part + i * sizeof(Bf16), other + i * sizeof(Bf16));
  }
}

HWY_INLINE void PrefetchPart(const std::byte* part, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += kLineBytes) __builtin_prefetch(part + at, 1, 3);
  __builtin_prefetch(part + bytes - 1, 1, 3);
}

// The usual widths: cosines and sines stay in registers from part to part, where reading them again
// took a quarter of the time.
template <uint32_t kVectors>
void RotateVectors(const Turn& turn, const RopeParts& parts) {
  const DF d;
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(d));
  VF cosines[kVectors], sines[kVectors];
  _Pragma("GCC unroll 4") for (uint32_t v = 0; v < kVectors; ++v) {
    cosines[v] = hn::LoadU(d, turn.cosines + v * lanes);
    sines[v] = hn::LoadU(d, turn.sines + v * lanes);
  }
  const uint64_t bytes = turn.pairs * 2 * sizeof(Bf16);
  std::byte* part = parts.first;
  for (uint64_t i = 0; i < parts.count; ++i, part += parts.stride_bytes) {
    PrefetchPart(part + kAheadParts * parts.stride_bytes, bytes);
    auto* words = reinterpret_cast<uint32_t*>(part);
    _Pragma("GCC unroll 4") for (uint32_t v = 0; v < kVectors; ++v) {
      TurnWords(words + v * lanes, cosines[v], sines[v]);
    }
  }
}

// Prefetches beyond the last part are harmless: they do not fault.
void RotateInterleaved(const Turn& turn, const RopeParts& parts) {
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(DF()));
  if (kHasVectors && turn.pairs == 2 * lanes) return RotateVectors<2>(turn, parts);
  if (kHasVectors && turn.pairs == 4 * lanes) return RotateVectors<4>(turn, parts);
  const uint64_t bytes = turn.pairs * 2 * sizeof(Bf16);
  std::byte* part = parts.first;
  for (uint64_t i = 0; i < parts.count; ++i, part += parts.stride_bytes) {
    PrefetchPart(part + kAheadParts * parts.stride_bytes, bytes);
    TurnInterleaved(turn, part);
  }
}

void RotateHalves(const Turn& turn, const RopeParts& parts) {
  const uint64_t bytes = turn.pairs * 2 * sizeof(Bf16);
  std::byte* part = parts.first;
  for (uint64_t i = 0; i < parts.count; ++i, part += parts.stride_bytes) {
    PrefetchPart(part + kAheadParts * parts.stride_bytes, bytes);
    TurnHalves(turn, part);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace latentd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace latentd {
namespace {

HWY_EXPORT(RotateInterleaved);
HWY_EXPORT(RotateHalves);

void RotateParts(const Rotation& rotation, const RopeParts& parts) {
  const Turn turn = {.cosines = rotation.cosines().data(),
                     .sines = rotation.sines().data(),
                     .pairs = static_cast<uint32_t>(rotation.cosines().size())};
  if (rotation.pairs() == RopePairs::kInterleaved) {
    HWY_DYNAMIC_DISPATCH(RotateInterleaved)(turn, parts);
  } else {
    HWY_DYNAMIC_DISPATCH(RotateHalves)(turn, parts);
  }
}

}  // namespace

void RotateRows(const Geometry& geometry, const Rotation& rotation, const Bf16* rows,
                uint64_t count, Bf16* rotated) {
  if (rows != rotated && count > 0) {
    std::memcpy(rotated, rows, count * geometry.row_width() * sizeof(Bf16));
  }
  // A row has the bytes of a bf16 record.
  RotateRecords(geometry, RecordFormat::kBf16, rotation, reinterpret_cast<std::byte*>(rotated),
                count);
}

void RotateRecords(const Geometry& geometry, RecordFormat format, const Rotation& rotation,
                   std::byte* records, uint64_t count) {
  if (rotation.identity()) return;
  RotateParts(rotation, {.first = records + RopeOffset(geometry, format),
                         .stride_bytes = RecordBytes(geometry, format),
                         .count = count});
}

void RotateChunk(const Geometry& geometry, RecordFormat format, const Rotation& rotation,
                 const PageMemory& memory, std::span<const uint32_t> page_ids, uint32_t layers,
                 uint32_t tokens) {
  for (uint32_t first = 0; first < tokens; first += kPageTokens) {
    std::byte* page = memory.arena + page_ids[first / kPageTokens] * memory.page_bytes;
    const uint32_t here = std::min(kPageTokens, tokens - first);
    for (uint32_t layer = 0; layer < layers; ++layer) {
      RotateRecords(geometry, format, rotation, page + layer * memory.layer_bytes, here);
    }
  }
}

}  // namespace latentd
#endif  // HWY_ONCE
