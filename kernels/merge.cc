#include "kernels/merge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "kernels/bf16.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/merge.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#ifndef LATENTD_KERNELS_MERGE_ROW_H_
#define LATENTD_KERNELS_MERGE_ROW_H_
namespace latentd {

// One nonempty input of a row and its share of the result.
struct WeightedRow {
  const void* out;
  OutFormat format;
  float weight;
};

}  // namespace latentd
#endif  // LATENTD_KERNELS_MERGE_ROW_H_

HWY_BEFORE_NAMESPACE();
namespace latentd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;

HWY_INLINE VF LoadValues(DF d, const WeightedRow& row, uint32_t i) {
  if (row.format == OutFormat::kFp32) return hn::LoadU(d, static_cast<const float*>(row.out) + i);
  const hn::RebindToUnsigned<DF> du;
  const hn::Rebind<uint16_t, DF> dh;
  const auto bits = hn::LoadU(dh, static_cast<const uint16_t*>(row.out) + i);
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

// Rounds to nearest even, and to bf16's largest value what would round to infinity. Finite input
// only.
HWY_INLINE void StoreValues(DF d, VF values, OutFormat format, void* out, uint32_t i) {
  if (format == OutFormat::kFp32) {
    hn::StoreU(values, d, static_cast<float*>(out) + i);
    return;
  }
  const hn::RebindToUnsigned<DF> du;
  const hn::RebindToSigned<DF> di;
  const hn::Rebind<uint16_t, DF> dh;
  const VF limit = hn::Set(d, kBf16Max);
  const auto bits = hn::BitCast(du, hn::Clamp(values, hn::Neg(limit), limit));
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu))));
  hn::StoreU(hn::DemoteTo(dh, hn::BitCast(di, rounded)), dh, static_cast<uint16_t*>(out) + i);
}

// out = sum of weight * row. Reads every input's lanes before it writes them: out may be one of the
// inputs.
void MergeRow(const WeightedRow* rows, size_t count, uint32_t width, OutFormat format, void* out) {
  const DF d;
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(d));
  uint32_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    VF sum = hn::Zero(d);
    for (size_t r = 0; r < count; ++r) {
      sum = hn::MulAdd(hn::Set(d, rows[r].weight), LoadValues(d, rows[r], i), sum);
    }
    StoreValues(d, sum, format, out, i);
  }
  for (; i < width; ++i) {
    float sum = 0;
    for (size_t r = 0; r < count; ++r) {
      const float value = rows[r].format == OutFormat::kFp32
                              ? static_cast<const float*>(rows[r].out)[i]
                              : Bf16ToFloat(static_cast<const Bf16*>(rows[r].out)[i]);
      sum += rows[r].weight * value;
    }
    if (format == OutFormat::kFp32) {
      static_cast<float*>(out)[i] = sum;
    } else {
      static_cast<Bf16*>(out)[i] = FloatToBf16(std::clamp(sum, -kBf16Max, kBf16Max));
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace latentd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace latentd {
namespace {

HWY_EXPORT(MergeRow);

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

const void* RowOf(const PartialView& input, uint64_t row, uint32_t latent_width) {
  return static_cast<const std::byte*>(input.out) +
         row * latent_width * OutValueBytes(input.out_format);
}

}  // namespace

void MergePartials(std::span<const PartialView> inputs, uint64_t rows, uint32_t latent_width,
                   OutFormat out_format, void* out, float* lse) {
  const uint64_t out_row_bytes = uint64_t{latent_width} * OutValueBytes(out_format);
  absl::InlinedVector<WeightedRow, 32> weighted;
  for (uint64_t row = 0; row < rows; ++row) {
    std::byte* out_row = static_cast<std::byte*>(out) + row * out_row_bytes;
    weighted.clear();
    float largest = kEmpty;
    for (const PartialView& input : inputs) {
      if (input.lse[row] == kEmpty) continue;
      // The weight is the lse until the largest is known.
      weighted.push_back({RowOf(input, row, latent_width), input.out_format, input.lse[row]});
      largest = std::max(largest, input.lse[row]);
    }
    if (weighted.empty()) {
      std::memset(out_row, 0, out_row_bytes);
      lse[row] = kEmpty;
      continue;
    }
    lse[row] = largest;
    if (weighted.size() == 1 && weighted[0].format == out_format) {
      std::memmove(out_row, weighted[0].out, out_row_bytes);
      continue;
    }
    float sum = 0;
    for (WeightedRow& r : weighted) {
      r.weight = std::exp(r.weight - largest);
      sum += r.weight;
    }
    for (WeightedRow& r : weighted) r.weight /= sum;
    lse[row] += std::log(sum);
    HWY_DYNAMIC_DISPATCH(MergeRow)
    (weighted.data(), weighted.size(), latent_width, out_format, out_row);
  }
}

}  // namespace latentd
#endif  // HWY_ONCE
