#include "routing/compute_table.h"

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

absl::Status CheckAxis(const char* name, std::span<const uint32_t> axis) {
  if (axis.empty() || axis.size() > kMaxTablePoints) {
    return absl::InvalidArgumentError(absl::StrCat("compute table: ", axis.size(), " points of ",
                                                   name, ", allowed 1..", kMaxTablePoints));
  }
  uint32_t before = 0;
  for (const uint32_t point : axis) {
    if (point <= before) {
      return absl::InvalidArgumentError(
          absl::StrCat("compute table: ", name, " ", point, " after ", before, ", must ascend"));
    }
    before = point;
  }
  return absl::OkStatus();
}

}  // namespace

ComputeTable::ComputeTable() {
  tokens_as_doubles_.fill(std::numeric_limits<double>::infinity());
  tokens_as_doubles_[0] = 1;
}

absl::StatusOr<ComputeTable> ComputeTable::Make(std::span<const uint32_t> rows,
                                                std::span<const uint32_t> tokens,
                                                std::span<const float> us) {
  if (absl::Status status = CheckAxis("rows", rows); !status.ok()) return status;
  if (absl::Status status = CheckAxis("tokens", tokens); !status.ok()) return status;
  if (us.size() != rows.size() * tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat("compute table: ", us.size(), " times for ",
                                                   rows.size(), " x ", tokens.size(), " points"));
  }
  ComputeTable table;
  table.row_points_ = rows.size();
  table.token_points_ = tokens.size();
  std::copy(rows.begin(), rows.end(), table.rows_.begin());
  std::copy(tokens.begin(), tokens.end(), table.tokens_.begin());
  std::copy(tokens.begin(), tokens.end(), table.tokens_as_doubles_.begin());
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t t = 0; t < tokens.size(); ++t) {
      const float value = us[r * tokens.size() + t];
      double least = std::max(kLeastBatchUs, kLeastUsPerRowToken * rows[r] * tokens[t]);
      if (r > 0) least = std::max<double>(least, table.us_[r - 1][t]);
      if (t > 0) least = std::max<double>(least, table.us_[r][t - 1]);
      // Written so that NaN is refused; a float may lie just below the double it came from.
      if (!(value >= least * (1 - 1e-6) && value <= kMostBatchUs)) {
        return absl::InvalidArgumentError(absl::StrCat("compute table: ", value, " us at ", rows[r],
                                                       " rows x ", tokens[t], " tokens, allowed ",
                                                       least, "..", kMostBatchUs));
      }
      table.us_[r][t] = value;
    }
  }
  return table;
}

// Loops over all points that there may be, used or not: of a fixed length they are a few vector
// instructions.
void ComputeTable::AtRows(double rows, ComputeCurve& curve) const {
  curve.points = token_points_;
  curve.tokens = tokens_as_doubles_.data();
  const size_t last = row_points_ - 1;
  if (rows <= rows_[0] || rows >= rows_[last]) {
    const std::array<float, kMaxTablePoints>& edge = us_[rows <= rows_[0] ? 0 : last];
    const double factor = std::max(1.0, rows / rows_[last]);
    for (size_t t = 0; t < kMaxTablePoints; ++t) curve.us[t] = factor * edge[t];
    return;
  }
  size_t r = 1;
  while (rows_[r] < rows) ++r;
  const double share = (rows - rows_[r - 1]) / (rows_[r] - rows_[r - 1]);
  for (size_t t = 0; t < kMaxTablePoints; ++t) {
    const double below = us_[r - 1][t];
    curve.us[t] = below + share * (us_[r][t] - below);
  }
}

double ComputeTable::UsAt(double rows, double tokens) const {
  ComputeCurve curve;
  AtRows(rows, curve);
  return curve.UsAt(tokens);
}

}  // namespace latentd
