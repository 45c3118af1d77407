// The two register blocks that do nearly all of the CPU backend's arithmetic, and the ways to read
// records into them. Compiled once per instruction set (see tile_kernels.cc).
//
// Both blocks keep R x T (or R x 2P) sums in registers and give every sum its own chain of
// multiply-adds, in an order that depends on neither R nor T: blocking changes no bits.
#if defined(LATENTD_KERNELS_CPU_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LATENTD_KERNELS_CPU_BLOCKS_INL_H_
#undef LATENTD_KERNELS_CPU_BLOCKS_INL_H_
#else
#define LATENTD_KERNELS_CPU_BLOCKS_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/mla.h"
#include "kernels/records.h"

// Register blocks are arrays of vectors: they live in registers only if every loop over them is
// unrolled.
#define LATENTD_UNROLL _Pragma("GCC unroll 16")

HWY_BEFORE_NAMESPACE();
namespace latentd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU = hn::RebindToUnsigned<DF>;
using VF = hn::Vec<DF>;

// A vector's lanes: 16, 8, 4 or 1.
HWY_INLINE constexpr uint32_t N() { return static_cast<uint32_t>(HWY_LANES(float)); }

// Most rows of a block: sums, records and one more have to fit 32 (AVX-512, NEON) or 16 registers.
inline constexpr uint32_t kBlockRows = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON ? 6 : 3;

// 2N bf16 values: the two halves of a 32-bit word become the even and the odd ones.
HWY_INLINE void DecodeBf16(const std::byte* values, VF& even, VF& odd) {
  const DF d;
  const DU du;
  const auto words = hn::LoadU(du, reinterpret_cast<const uint32_t*>(values));
  even = hn::BitCast(d, hn::ShiftLeft<16>(words));
  odd = hn::BitCast(d, hn::And(words, hn::Set(du, 0xffff0000u)));
}

// 2N e4m3 values times their scale; `factor` is 256 * scale.
//
// An e4m3 value's bits, moved to where fp16 has its exponent and mantissa, are an fp16 value 2^-8
// times as large, subnormals included; the machine widens those without a detour. 256 * scale is
// exact, so the product is rounded once.
HWY_INLINE void DecodeFp8(const std::byte* values, VF factor, VF& even, VF& odd) {
  const DF d;
  const hn::Rebind<int16_t, DF> d16;
  const hn::Rebind<hwy::float16_t, DF> df16;
  // An arithmetic shift moves exponent and mantissa down by one and leaves the sign in its place.
  const auto keep = hn::Set(d16, static_cast<int16_t>(0xbf80));
  const auto pairs = hn::LoadU(d16, reinterpret_cast<const int16_t*>(values));
  const auto low = hn::And(hn::ShiftRight<1>(hn::ShiftLeft<8>(pairs)), keep);
  const auto high = hn::And(hn::ShiftRight<1>(pairs), keep);
  even = hn::Mul(factor, hn::PromoteTo(d, hn::BitCast(df16, low)));
  odd = hn::Mul(factor, hn::PromoteTo(d, hn::BitCast(df16, high)));
}

// How the blocks below read records. A record is a few runs of values, each with one factor.
//   kFromMemory           records come from the cache, maybe from beyond the second level
//   kTokensOfOneRow       tokens side by side for a row alone
//   ForEachRun(width, f)  f(begin, end, run) for the runs of values [0, width), in order
//   LatentRun(k)          the run of latent value k
// and of a run:
//   Factor(token)               to be got once and passed to Load
//   Load(token, k, factor, ..)  values [k, k + 2N)
//   Line(token, k)              where they are

struct One {};

struct Bf16Run {
  int64_t offset = 0;  // of value 0, from the record's start

  HWY_INLINE One Factor(const std::byte*) const { return {}; }
  HWY_INLINE void Load(const std::byte* token, uint32_t k, One, VF& even, VF& odd) const {
    DecodeBf16(Line(token, k), even, odd);
  }
  HWY_INLINE const std::byte* Line(const std::byte* token, uint32_t k) const {
    return token + offset + k * sizeof(Bf16);
  }
};

struct Fp8Run {
  uint64_t scale_offset;  // of the run's scale, from the record's start

  HWY_INLINE VF Factor(const std::byte* token) const {
    float scale;
    std::memcpy(&scale, token + scale_offset, sizeof(scale));
    return hn::Set(DF(), 256.0f * scale);
  }
  HWY_INLINE void Load(const std::byte* token, uint32_t k, VF factor, VF& even, VF& odd) const {
    DecodeFp8(token + k, factor, even, odd);
  }
  HWY_INLINE const std::byte* Line(const std::byte* token, uint32_t k) const { return token + k; }
};

struct Fp32Run {
  HWY_INLINE One Factor(const std::byte*) const { return {}; }
  HWY_INLINE void Load(const std::byte* token, uint32_t k, One, VF& even, VF& odd) const {
    const DF d;
    const float* values = reinterpret_cast<const float*>(token) + k;
    even = hn::Load(d, values);
    odd = hn::Load(d, values + N());
  }
  HWY_INLINE const std::byte* Line(const std::byte* token, uint32_t k) const {
    return token + k * sizeof(float);
  }
};

// bf16 records, read in place.
struct Bf16Records {
  static constexpr bool kFromMemory = true;
  // Each sum is one chain of dependent additions.
  static constexpr uint32_t kTokensOfOneRow = 8;
  const std::byte* first;
  uint64_t stride;  // bytes from token to token

  const std::byte* Token(uint32_t t) const { return first + t * stride; }
  template <class F>
  HWY_INLINE void ForEachRun(uint32_t width, const F& f) const {
    f(0u, width, Bf16Run());
  }
  HWY_INLINE Bf16Run LatentRun(uint32_t) const { return {}; }
};

// fp8 records, read in place: decoded anew at each use, in registers.
struct Fp8Records {
  static constexpr bool kFromMemory = true;
  // Decoding keeps the machine busy between two additions of a chain.
  static constexpr uint32_t kTokensOfOneRow = 4;
  const std::byte* first;
  uint64_t stride;
  uint32_t latent_width;

  const std::byte* Token(uint32_t t) const { return first + t * stride; }
  template <class F>
  HWY_INLINE void ForEachRun(uint32_t width, const F& f) const {
    for (uint32_t k = 0; k < latent_width; k += kFp8ScaleWidth) {
      f(k, k + kFp8ScaleWidth, LatentRun(k));
    }
    const uint64_t rope_offset = Fp8RopeOffset({.latent_width = latent_width});
    f(latent_width, width,
      Bf16Run{static_cast<int64_t>(rope_offset) -
              static_cast<int64_t>(latent_width * sizeof(Bf16))});
  }
  HWY_INLINE Fp8Run LatentRun(uint32_t k) const {
    return {latent_width + k / kFp8ScaleWidth * sizeof(float)};
  }
};

// Decoded records: fp32 in split order.
struct Fp32Records {
  static constexpr bool kFromMemory = false;
  static constexpr uint32_t kTokensOfOneRow = 8;
  const std::byte* first;
  uint64_t stride;

  const std::byte* Token(uint32_t t) const { return first + t * stride; }
  template <class F>
  HWY_INLINE void ForEachRun(uint32_t width, const F& f) const {
    f(0u, width, Fp32Run());
  }
  HWY_INLINE Fp32Run LatentRun(uint32_t) const { return {}; }
};

// Into the second-level cache: the first one holds what is being worked on.
HWY_INLINE void PrefetchLine(const std::byte* line) { __builtin_prefetch(line, 0, 2); }

// Brings the next page's records from memory while this one's are computed with, a few lines at
// every step. The machine's own prefetchers lose the track, for several records are read side by
// side: without this, one row over a cold cache takes twice as long. More than three lines a step
// are dropped more often.
struct Ahead {
  static constexpr int kLineBytes = 64;
  const std::byte* at = nullptr;
  const std::byte* end = nullptr;

  HWY_INLINE void Step() {
    if (at >= end) return;
    LATENTD_UNROLL
    for (int i = 0; i < 3; ++i) PrefetchLine(at + kLineBytes * i);
    at += kLineBytes * 3;
  }
};

#if HWY_TARGET != HWY_SCALAR

// The sum of a vector's 128-bit blocks.
template <class D>
HWY_INLINE auto AddBlocks(D, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> dh;
    return AddBlocks(dh, hn::Add(hn::LowerHalf(dh, v), hn::UpperHalf(dh, v)));
  } else {
    return v;
  }
}

#endif

// sums[i] = sum of the lanes of v[i], for four vectors at once: a third of the shuffles of one at a
// time.
HWY_INLINE void ReduceFour(const VF* v, float* sums) {
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 4; ++i) sums[i] = hn::GetLane(v[i]);
#else
  const DF d;
  const hn::RepartitionToWide<DU> dw;
  const VF ab = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
  const VF ce = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
  const auto ab_pairs = hn::BitCast(dw, ab);
  const auto ce_pairs = hn::BitCast(dw, ce);
  const VF abce = hn::Add(hn::BitCast(d, hn::InterleaveLower(dw, ab_pairs, ce_pairs)),
                          hn::BitCast(d, hn::InterleaveUpper(dw, ab_pairs, ce_pairs)));
  hn::StoreU(AddBlocks(d, abce), hn::FixedTag<float, 4>(), sums);
#endif
}

// scores[r][t] = dot(queries[r], token first_token + t) for R rows and T (a multiple of 4) tokens.
// Tokens from `token_limit` on are never read: in their place stands the last one that may be.
template <uint32_t R, uint32_t T, class Records>
HWY_INLINE void ScoreBlock(const Records& records, uint32_t first_token, uint32_t token_limit,
                           const float* HWY_RESTRICT queries, uint32_t width,
                           float* HWY_RESTRICT scores, Ahead& ahead) {
  const DF d;
  const std::byte* tokens[T];
  VF sums[R][T];
  LATENTD_UNROLL
  for (uint32_t t = 0; t < T; ++t) {
    const uint32_t token = first_token + t;
    tokens[t] = records.Token(token < token_limit ? token : token_limit - 1);
    LATENTD_UNROLL
    for (uint32_t r = 0; r < R; ++r) sums[r][t] = hn::Zero(d);
  }
  records.ForEachRun(width, [&](uint32_t begin, uint32_t end, const auto& run) HWY_ATTR {
    decltype(run.Factor(nullptr)) factors[T];
    LATENTD_UNROLL
    for (uint32_t t = 0; t < T; ++t) factors[t] = run.Factor(tokens[t]);
    for (uint32_t k = begin; k < end; k += 2 * N()) {
      ahead.Step();
      if constexpr (R == 1 && Records::kFromMemory) {
        // The machine drops prefetches when too many are under way, as they are when one row races
        // through the cache. So each line is asked for again, three blocks before its use: 12 % of
        // the time of such a row.
        LATENTD_UNROLL
        for (uint32_t t = 0; t < T; ++t) {
          PrefetchLine(run.Line(tokens[t], k) + 3 * T * records.stride);
        }
      }
      VF even[T], odd[T];
      LATENTD_UNROLL
      for (uint32_t t = 0; t < T; ++t) run.Load(tokens[t], k, factors[t], even[t], odd[t]);
      LATENTD_UNROLL
      for (uint32_t r = 0; r < R; ++r) {
        const VF q = hn::Load(d, queries + r * width + k);
        LATENTD_UNROLL
        for (uint32_t t = 0; t < T; ++t) sums[r][t] = hn::MulAdd(q, even[t], sums[r][t]);
      }
      LATENTD_UNROLL
      for (uint32_t r = 0; r < R; ++r) {
        const VF q = hn::Load(d, queries + r * width + k + N());
        LATENTD_UNROLL
        for (uint32_t t = 0; t < T; ++t) sums[r][t] = hn::MulAdd(q, odd[t], sums[r][t]);
      }
    }
  });
  LATENTD_UNROLL
  for (uint32_t r = 0; r < R; ++r) {
    LATENTD_UNROLL
    for (uint32_t t = 0; t < T; t += 4) {
      ReduceFour(&sums[r][t], scores + r * kPageTokens + first_token + t);
    }
  }
}

// out[r][k .. k + 2NP) = out * rescale[r] + sum over tokens [begin, end) of weights[r][t] *
// record[t].
template <uint32_t R, uint32_t P, class Records>
HWY_INLINE void AccumulateBlock(const Records& records, uint32_t begin, uint32_t end, uint32_t k,
                                const float* HWY_RESTRICT weights,
                                const float* HWY_RESTRICT rescale, float* const* out,
                                Ahead& ahead) {
  static_assert(kFp8ScaleWidth % (2 * P * N()) == 0, "one run");
  const DF d;
  const auto run = records.LatentRun(k);
  VF sums[R][2 * P];
  LATENTD_UNROLL
  for (uint32_t r = 0; r < R; ++r) {
    const VF factor = hn::Set(d, rescale[r]);
    LATENTD_UNROLL
    for (uint32_t p = 0; p < 2 * P; ++p) {
      sums[r][p] = hn::Mul(factor, hn::Load(d, out[r] + k + p * N()));
    }
  }
  for (uint32_t t = begin; t < end; ++t) {
    if constexpr (R == 1) ahead.Step();
    const std::byte* token = records.Token(t);
    const auto factor = run.Factor(token);
    VF values[2 * P];
    LATENTD_UNROLL
    for (uint32_t p = 0; p < P; ++p) {
      run.Load(token, k + 2 * p * N(), factor, values[2 * p], values[2 * p + 1]);
    }
    LATENTD_UNROLL
    for (uint32_t r = 0; r < R; ++r) {
      const VF weight = hn::Set(d, weights[r * kPageTokens + t]);
      LATENTD_UNROLL
      for (uint32_t p = 0; p < 2 * P; ++p) {
        sums[r][p] = hn::MulAdd(weight, values[p], sums[r][p]);
      }
    }
  }
  LATENTD_UNROLL
  for (uint32_t r = 0; r < R; ++r) {
    LATENTD_UNROLL
    for (uint32_t p = 0; p < 2 * P; ++p) hn::Store(sums[r][p], d, out[r] + k + p * N());
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace latentd
HWY_AFTER_NAMESPACE();

#endif  // LATENTD_KERNELS_CPU_BLOCKS_INL_H_
