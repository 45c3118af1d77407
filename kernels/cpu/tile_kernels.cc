#include "kernels/cpu/tile_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/bf16.h"
#include "kernels/records.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile_kernels.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h: compiled per instruction set.
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/blocks-inl.h"
#include "kernels/cpu/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace latentd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr float kLargest = std::numeric_limits<float>::max();
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// --- Products ------------------------------------------------------------------------------------

template <uint32_t R, class Records>
HWY_NOINLINE void ScoreTokens(const Records& records, uint32_t tokens, const float* queries,
                              uint32_t width, float* scores, Ahead& ahead) {
  constexpr uint32_t kTokens = R == 1 ? Records::kTokensOfOneRow : 4;
  Ahead mine = ahead;  // in registers
  for (uint32_t t = 0; t < tokens; t += kTokens) {
    ScoreBlock<R, kTokens>(records, t, tokens, queries, width, scores, mine);
  }
  ahead = mine;
}

// ScoreTokens for a number of rows known at run time, at most R.
template <uint32_t R, class Records>
HWY_INLINE void ScoreRows(uint32_t rows, const Records& records, uint32_t tokens,
                          const float* queries, uint32_t width, float* scores, Ahead& ahead) {
  if (rows == R) return ScoreTokens<R>(records, tokens, queries, width, scores, ahead);
  if constexpr (R > 1) ScoreRows<R - 1>(rows, records, tokens, queries, width, scores, ahead);
}

// Most output values of one AccumulateColumns: a page's part of that width stays in the first-level
// cache while one block of rows after the other uses it.
HWY_INLINE constexpr uint32_t ColumnWidth(uint32_t rows) { return (rows == 1 ? 8 : 4) * N(); }

template <uint32_t R, class Records>
HWY_NOINLINE void AccumulateColumns(const Records& records, uint32_t begin, uint32_t end,
                                    uint32_t k, uint32_t width, const float* weights,
                                    const float* rescale, float* const* out, Ahead& ahead) {
  Ahead mine = ahead;
  if constexpr (R == 1) {
    for (; width >= 8 * N(); width -= 8 * N(), k += 8 * N()) {
      AccumulateBlock<R, 4>(records, begin, end, k, weights, rescale, out, mine);
    }
  }
  for (; width >= 4 * N(); width -= 4 * N(), k += 4 * N()) {
    AccumulateBlock<R, 2>(records, begin, end, k, weights, rescale, out, mine);
  }
  for (; width > 0; width -= 2 * N(), k += 2 * N()) {
    AccumulateBlock<R, 1>(records, begin, end, k, weights, rescale, out, mine);
  }
  ahead = mine;
}

template <uint32_t R, class Records>
HWY_INLINE void AccumulateRows(uint32_t rows, const Records& records, uint32_t end, uint32_t k,
                               uint32_t width, const float* weights, const float* rescale,
                               float* const* out, Ahead& ahead) {
  if (rows == R) {
    return AccumulateColumns<R>(records, 0, end, k, width, weights, rescale, out, ahead);
  }
  if constexpr (R > 1) {
    AccumulateRows<R - 1>(rows, records, end, k, width, weights, rescale, out, ahead);
  }
}

// --- Softmax -------------------------------------------------------------------------------------

// Turns a row's first `tokens` (1..kPageTokens) dot products into weights exp(logit - max), with
// max the largest logit so far. Leaves in scratch what the sums so far have to be multiplied with,
// for the new maximum.
void SoftmaxRow(float scale, uint32_t tokens, uint32_t row, TileScratch& scratch) {
  const DF d;
  const VF vscale = hn::Set(d, scale);
  float* scores = scratch.scores() + row * kPageTokens;

  VF largest = hn::Set(d, kNothing);
  auto in_range = hn::Eq(vscale, vscale);
  for (uint32_t t = 0; t < tokens; t += N()) {
    const auto visible = hn::FirstN(d, tokens - t);
    const VF logits = hn::IfThenElseZero(visible, hn::Mul(vscale, hn::Load(d, scores + t)));
    in_range = hn::And(in_range, hn::Le(hn::Abs(logits), hn::Set(d, kLargest)));
    largest = hn::Max(largest, hn::IfThenElse(visible, logits, hn::Set(d, kNothing)));
    hn::Store(logits, d, scores + t);
  }
  if (!hn::AllTrue(d, in_range)) {
    // Poisons the row: a NaN stays one through all that follows, and MergePieces reports it.
    scratch.sum[row] = std::numeric_limits<float>::quiet_NaN();
    scratch.rescale[row] = 1;
    return;
  }

  const float old_max = scratch.max[row];
  const float max = std::max(old_max, hn::GetLane(hn::MaxOfLanes(d, largest)));
  const VF vmax = hn::Set(d, max);
  VF sum = hn::Zero(d);
  for (uint32_t t = 0; t < tokens; t += N()) {
    const auto visible = hn::FirstN(d, tokens - t);
    const VF exponent = hn::Sub(hn::Load(d, scores + t), vmax);
    const VF weights = hn::IfThenElseZero(visible, hn::Exp(d, hn::Min(exponent, hn::Zero(d))));
    sum = hn::Add(sum, weights);
    hn::Store(weights, d, scores + t);
  }
  const float rescale = old_max == max ? 1.0f : std::exp(old_max - max);
  scratch.max[row] = max;
  scratch.sum[row] = scratch.sum[row] * rescale + hn::GetLane(hn::SumOfLanes(d, sum));
  scratch.rescale[row] = rescale;
}

// --- Tiles ---------------------------------------------------------------------------------------

// The next block of a tile's rows: as even a division as there is of `rows` into blocks of at most
// kBlockRows.
HWY_INLINE uint32_t NextBlock(uint32_t rows_left) {
  const uint32_t blocks = (rows_left + kBlockRows - 1) / kBlockRows;
  return (rows_left + blocks - 1) / blocks;
}

// Visible tokens of a page.
HWY_INLINE uint32_t TokensInPage(const TileRow& row, uint32_t page) {
  const uint32_t before = page * kPageTokens;
  return row.visible_tokens <= before ? 0 : std::min(row.visible_tokens - before, kPageTokens);
}

void BeginTile(const KernelShape& shape, const Tile& tile, const TileRow* rows,
               const PieceStore& pieces, TileScratch& scratch) {
  for (uint32_t r = 0; r < tile.rows; ++r) {
    float* query = scratch.queries() + r * shape.padded_row;
    const auto* bits = reinterpret_cast<const std::byte*>(rows[r].query);
    if (shape.path == RecordPath::kGeneral) {
      DecodeRecord(shape.geometry, RecordFormat::kBf16, bits,
                   {scratch.record(), shape.geometry.row_width()});
      PadRow(shape, scratch.record(), query);
    } else {
      SplitBf16(bits, shape.padded_row, query);
    }
    float* out = pieces.out + uint64_t{rows[r].piece} * shape.padded_latent;
    std::fill(out, out + shape.padded_latent, 0.0f);
    scratch.max[r] = kNothing;
    scratch.sum[r] = 0;
  }
}

template <class Records>
HWY_INLINE void ComputePage(const KernelShape& shape, const Tile& tile, const TileRow* rows,
                            const PieceStore& pieces, uint32_t page, const Records& records,
                            Ahead ahead, TileScratch& scratch) {
  uint32_t tokens[kRowsPerTile] = {};
  float* out[kRowsPerTile];
  for (uint32_t r = 0; r < tile.rows; ++r) {
    tokens[r] = TokensInPage(rows[r], page);
    out[r] = pieces.out + uint64_t{rows[r].piece} * shape.padded_latent;
  }
  for (uint32_t r = 0, block; r < tile.rows; r += block) {
    block = NextBlock(tile.rows - r);
    ScoreRows<kBlockRows>(block, records, *std::max_element(tokens + r, tokens + r + block),
                          scratch.queries() + r * shape.padded_row, shape.padded_row,
                          scratch.scores() + r * kPageTokens, ahead);
  }
  for (uint32_t r = 0; r < tile.rows; ++r) {
    scratch.rescale[r] = 1;
    if (tokens[r] > 0) SoftmaxRow(rows[r].scale, tokens[r], r, scratch);
  }

  const float kKeep = 1.0f;
  const uint32_t column_width = ColumnWidth(tile.rows);
  for (uint32_t k = 0; k < shape.padded_latent; k += column_width) {
    const uint32_t width = std::min(column_width, shape.padded_latent - k);
    for (uint32_t r = 0, block; r < tile.rows; r += block) {
      block = NextBlock(tile.rows - r);
      // Tokens that all rows of the block see together, then each row's others: an invisible token
      // is not even multiplied by zero.
      const uint32_t common = *std::min_element(tokens + r, tokens + r + block);
      AccumulateRows<kBlockRows>(block, records, common, k, width,
                                 scratch.scores() + r * kPageTokens, scratch.rescale + r, out + r,
                                 ahead);
      for (uint32_t i = r; i < r + block; ++i) {
        if (tokens[i] == common) continue;
        AccumulateColumns<1>(records, common, tokens[i], k, width,
                             scratch.scores() + i * kPageTokens, &kKeep, out + i, ahead);
      }
    }
  }
}

void TilePage(const KernelShape& shape, const Tile& tile, const TileRow* rows,
              const PieceStore& pieces, uint32_t page, const std::byte* next_page,
              TileScratch& scratch) {
  const std::byte* first = PageRecords(shape, tile, page);
  Ahead ahead;
  if (next_page != nullptr) ahead = {next_page, next_page + kPageTokens * shape.record_bytes};
  if (shape.path == RecordPath::kInPlace) {
    const Bf16Records records{first, shape.record_bytes};
    return ComputePage(shape, tile, rows, pieces, page, records, ahead, scratch);
  }
  // Rows of one block decode each value twice, in registers; through memory it would be once, and
  // written and read besides. (Without vectors decoding is most of the work.)
  if constexpr (HWY_TARGET != HWY_SCALAR) {
    if (shape.path == RecordPath::kFp8 && tile.rows <= kBlockRows) {
      const Fp8Records records{first, shape.record_bytes, shape.geometry.latent_width};
      return ComputePage(shape, tile, rows, pieces, page, records, ahead, scratch);
    }
  }
  uint32_t tokens = 0;
  for (uint32_t r = 0; r < tile.rows; ++r) tokens = std::max(tokens, TokensInPage(rows[r], page));
  DecodePage(shape, first, tokens, scratch);
  const Fp32Records decoded{reinterpret_cast<const std::byte*>(scratch.records()),
                            shape.padded_row * sizeof(float)};
  ComputePage(shape, tile, rows, pieces, page, decoded, ahead, scratch);
}

void EndTile(const Tile& tile, const TileRow* rows, const PieceStore& pieces,
             TileScratch& scratch) {
  for (uint32_t r = 0; r < tile.rows; ++r) {
    pieces.max[rows[r].piece] = scratch.max[r];
    pieces.sum[rows[r].piece] = scratch.sum[r];
  }
}

// --- Merging -------------------------------------------------------------------------------------

// Values [k, k + 2N) of a row from split order to the output's own. `values` holds room for 2N
// values of any format.
HWY_INLINE void JoinValues(VF even, VF odd, OutFormat format, void* values) {
  const DF d;
  if (format == OutFormat::kFp32) {
    hn::StoreInterleaved2(even, odd, d, static_cast<float*>(values));
    return;
  }
  const DU du;
  // To nearest even, and to bf16's largest value what would round to infinity.
  const VF limit = hn::Set(d, kBf16Max);
  const auto bias = hn::Set(du, 0x7fffu);
  const auto one = hn::Set(du, 1u);
  const auto e = hn::BitCast(du, hn::Clamp(even, hn::Neg(limit), limit));
  const auto o = hn::BitCast(du, hn::Clamp(odd, hn::Neg(limit), limit));
  const auto e_rounded = hn::Add(e, hn::Add(bias, hn::And(hn::ShiftRight<16>(e), one)));
  const auto o_rounded = hn::Add(o, hn::Add(bias, hn::And(hn::ShiftRight<16>(o), one)));
  const auto words =
      hn::Or(hn::ShiftRight<16>(e_rounded), hn::And(o_rounded, hn::Set(du, 0xffff0000u)));
  hn::StoreU(words, du, static_cast<uint32_t*>(values));
}

// Adds up the row's pieces times `weights`, rounds and stores. False if a value is not finite.
bool MergeOut(const KernelShape& shape, const FinishRow& row, const float* pieces_out,
              const float* weights) {
  const DF d;
  const uint32_t value_bytes = OutValueBytes(row.out_format);
  const uint32_t width = shape.geometry.latent_width;
  auto* out = static_cast<std::byte*>(row.out);
  auto in_range = hn::Eq(hn::Zero(d), hn::Zero(d));
  HWY_ALIGN float joined[kPadWidth];
  for (uint32_t k = 0; k < width; k += 2 * N()) {
    VF even = hn::Zero(d);
    VF odd = hn::Zero(d);
    for (uint32_t p = 0; p < row.pieces; ++p) {
      const float* piece = pieces_out + uint64_t{p} * shape.padded_latent + k;
      const VF weight = hn::Set(d, weights[p]);
      even = hn::MulAdd(weight, hn::Load(d, piece), even);
      odd = hn::MulAdd(weight, hn::Load(d, piece + N()), odd);
    }
    const VF limit = hn::Set(d, kLargest);
    in_range =
        hn::And(in_range, hn::And(hn::Le(hn::Abs(even), limit), hn::Le(hn::Abs(odd), limit)));
    JoinValues(even, odd, row.out_format, joined);
    std::memcpy(out + k * value_bytes, joined, std::min(2 * N(), width - k) * value_bytes);
  }
  return hn::AllTrue(d, in_range);
}

bool MergePieces(const KernelShape& shape, const FinishRow& row, const PieceStore& pieces) {
  if (row.pieces == 0) {
    std::memset(row.out, 0, shape.geometry.latent_width * OutValueBytes(row.out_format));
    *row.lse = kNothing;
    return true;
  }
  // Nobody else reads a finished row's maxima: the weights take their place.
  float* weights = pieces.max + row.first_piece;
  const float* sums = pieces.sum + row.first_piece;
  const float max = *std::max_element(weights, weights + row.pieces);
  float total = 0;
  for (uint32_t p = 0; p < row.pieces; ++p) {
    weights[p] = std::exp(weights[p] - max);
    total += weights[p] * sums[p];
  }
  if (!(total <= kLargest)) return false;
  for (uint32_t p = 0; p < row.pieces; ++p) weights[p] /= total;
  *row.lse = max + std::log(total);
  return MergeOut(shape, row, pieces.out + uint64_t{row.first_piece} * shape.padded_latent,
                  weights);
}

TileKernels Kernels() {
  return {hwy::TargetName(HWY_TARGET), &BeginTile, &TilePage, &EndTile, &MergePieces};
}

}  // namespace HWY_NAMESPACE
}  // namespace latentd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace latentd {
namespace {

HWY_EXPORT(Kernels);

RecordPath ChoosePath(const Geometry& g, RecordFormat format, const CacheView& cache) {
  if (g.latent_width % kPadWidth != 0 || g.rope_width % kPadWidth != 0) return RecordPath::kGeneral;
  // Words of two values are read from the cache as they lie there.
  const bool aligned = reinterpret_cast<uintptr_t>(cache.arena) % sizeof(uint32_t) == 0 &&
                       cache.page_bytes % sizeof(uint32_t) == 0 &&
                       cache.layer_bytes % sizeof(uint32_t) == 0;
  if (!aligned) return RecordPath::kGeneral;
  return format == RecordFormat::kBf16 ? RecordPath::kInPlace : RecordPath::kFp8;
}

}  // namespace

KernelShape MakeKernelShape(const Geometry& geometry, RecordFormat format, const CacheView& cache) {
  KernelShape shape;
  shape.geometry = geometry;
  shape.format = format;
  shape.cache = cache;
  shape.record_bytes = RecordBytes(geometry, format);
  shape.path = ChoosePath(geometry, format, cache);
  shape.padded_latent = PadWidth(geometry.latent_width);
  shape.padded_row = shape.padded_latent + PadWidth(geometry.rope_width);
  return shape;
}

TileScratch::TileScratch(const KernelShape& shape)
    : queries_(hwy::AllocateAligned<float>(kRowsPerTile * shape.padded_row)),
      records_(hwy::AllocateAligned<float>(
          shape.path == RecordPath::kInPlace ? 1 : kPageTokens * shape.padded_row)),
      scores_(hwy::AllocateAligned<float>(kRowsPerTile * kPageTokens)),
      record_(hwy::AllocateAligned<float>(shape.geometry.row_width())) {}

TileKernels BestTileKernels() { return HWY_DYNAMIC_DISPATCH(Kernels)(); }

}  // namespace latentd
#endif  // HWY_ONCE
