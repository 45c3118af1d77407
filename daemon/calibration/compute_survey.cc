#include "daemon/calibration/compute_survey.h"

#include <algorithm>
#include <limits>

#include "routing/robust_stats.h"

namespace latentd {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
// Neighbours are at most four times apart, where a table between them is good to some percent
// (docs/cost-model.md); closer where rows fill a device's tiles.
constexpr uint32_t kRows[] = {1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096};
constexpr uint32_t kTokens[] = {64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
static_assert(std::size(kRows) <= kMaxTablePoints && std::size(kTokens) <= kMaxTablePoints);
// A point is timed for so long in each round, within these numbers of batches.
constexpr double kTimePerPointUs = 10'000;
constexpr double kFewestBatches = 1;
constexpr double kMostBatches = 20;
// Batches that fill the device and its caches before one is timed: those in flight, and more of those
// that are over before clocks have risen.
constexpr uint32_t kWarmups = 2;
constexpr uint32_t kMoreWarmups = 4;
constexpr double kShortUs = 1'000;

}  // namespace

ComputeSurvey::ComputeSurvey(const SurveyLimits& limits) : limits_(limits) {
  const uint32_t heads = std::clamp<uint32_t>(limits.heads, 1, kMaxHeads);
  for (const uint32_t rows : kRows) {
    // Whole query tokens.
    const uint32_t whole = rows < heads ? rows : rows - rows % heads;
    if (whole <= limits.most_rows && (rows_.empty() || whole > rows_.back()))
      rows_.push_back(whole);
  }
  for (const uint32_t tokens : kTokens) {
    if (tokens <= limits.most_tokens) tokens_.push_back(tokens);
  }
  if (tokens_.empty()) tokens_.push_back(std::max<uint32_t>(limits.most_tokens, 1));
  medians_.assign(points(), kInfinite);
}

std::optional<SurveyPoint> ComputeSurvey::Next() {
  while (round_ < kRounds) {
    const double expected = Expected(row_, token_);
    // What turned out to take longer is timed all the same: it was the largest of its kind.
    if (round_ == 0 ? expected > limits_.longest_batch_us : expected == kInfinite) {
      Advance();
      continue;
    }
    const uint32_t rows = rows_[row_];
    const uint32_t heads = std::min(rows, std::clamp<uint32_t>(limits_.heads, 1, kMaxHeads));
    const double batches =
        expected > 0 ? std::clamp(kTimePerPointUs / expected, kFewestBatches, kMostBatches)
                     : kMostBatches;
    return SurveyPoint{.rows = rows,
                       .tokens = tokens_[token_],
                       .regime = regime_,
                       .query_tokens = rows / heads,
                       .heads = heads,
                       .warmups = expected < kShortUs ? kMoreWarmups : kWarmups,
                       .batches = static_cast<uint32_t>(batches)};
  }
  return std::nullopt;
}

void ComputeSurvey::Add(std::span<const double> us) {
  if (us.empty()) return Skip();
  for (const double each : us) {
    samples_.push_back({.rows = rows_[row_],
                        .tokens = tokens_[token_],
                        .format = limits_.format,
                        .regime = regime_,
                        .us = each});
  }
  if (round_ == 0) {
    MedianAt(row_, token_) = Median({us.begin(), us.end()});
    ++timed_;
  }
  Advance();
}

void ComputeSurvey::Skip() {
  token_ = tokens_.size() - 1;
  Advance();
}

void ComputeSurvey::Advance() {
  if (++token_ < tokens_.size()) return;
  token_ = 0;
  if (++row_ < rows_.size()) return;
  row_ = 0;
  const bool both = regime_ == ComputeRegime::kThroughput;
  regime_ = both ? ComputeRegime::kLatency : ComputeRegime::kThroughput;
  round_ += both ? 1 : 0;
}

double ComputeSurvey::Expected(size_t row, size_t token) {
  if (round_ > 0) return MedianAt(row, token);
  double expected = 0;
  if (row > 0) expected = MedianAt(row - 1, token) * rows_[row] / rows_[row - 1];
  if (token > 0) {
    expected = std::max(expected, MedianAt(row, token - 1) * tokens_[token] / tokens_[token - 1]);
  }
  return expected;
}

absl::StatusOr<ComputeTable> ComputeSurvey::Table(ComputeRegime regime) const {
  return FitCompute(samples_, limits_.format, regime);
}

}  // namespace latentd
