#include "routing/compute_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "routing/robust_stats.h"

namespace latentd {
namespace {

using Points = std::map<std::pair<uint32_t, uint32_t>, double>;  // (rows, tokens) → median µs

absl::StatusOr<Points> MediansByPoint(std::span<const ComputeSample> samples, RecordFormat format,
                                      ComputeRegime regime) {
  std::map<std::pair<uint32_t, uint32_t>, std::vector<double>> times;
  for (const ComputeSample& sample : samples) {
    if (sample.format != format || sample.regime != regime) continue;
    if (sample.rows == 0 || sample.tokens == 0 || !std::isfinite(sample.us) || sample.us <= 0) {
      return absl::InvalidArgumentError(absl::StrCat("compute sample of ", sample.rows, " rows x ",
                                                     sample.tokens, " tokens: ", sample.us,
                                                     " us, all three must be positive"));
    }
    times[{sample.rows, sample.tokens}].push_back(sample.us);
  }
  if (times.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no compute samples of ", std::string(RecordFormatName(format)), ", ",
                     regime == ComputeRegime::kLatency ? "latency" : "throughput", " regime"));
  }
  Points points;
  for (auto& [point, values] : times) points[point] = Median(std::move(values));
  return points;
}

// Logarithms of times on the whole grid, [rows][tokens].
struct Grid {
  std::vector<uint32_t> rows;
  std::vector<uint32_t> tokens;
  std::vector<double> log_us;
  std::vector<double> weights;

  double& At(size_t r, size_t t) { return log_us[r * tokens.size() + t]; }
};

// What a point that nobody timed is taken to need; see the header.
double CarefulUs(const Points& points, uint32_t rows, uint32_t tokens) {
  double least_above = std::numeric_limits<double>::infinity();
  double most_grown = 0;
  for (const auto& [point, us] : points) {
    if (point.first >= rows && point.second >= tokens) least_above = std::min(least_above, us);
    const double growth = std::max(1.0, static_cast<double>(rows) / point.first) *
                          std::max(1.0, static_cast<double>(tokens) / point.second);
    if (most_grown == 0 || us * growth < most_grown) most_grown = us * growth;
  }
  return std::min(least_above, most_grown);
}

Grid MakeGrid(const Points& points) {
  std::set<uint32_t> rows;
  std::set<uint32_t> tokens;
  for (const auto& [point, us] : points) {
    rows.insert(point.first);
    tokens.insert(point.second);
  }
  Grid grid{.rows = {rows.begin(), rows.end()}, .tokens = {tokens.begin(), tokens.end()}};
  for (const uint32_t r : grid.rows) {
    for (const uint32_t t : grid.tokens) {
      const auto timed = points.find({r, t});
      const bool known = timed != points.end();
      grid.log_us.push_back(std::log(known ? timed->second : CarefulUs(points, r, t)));
      grid.weights.push_back(known ? 1 : 1e-3);
    }
  }
  return grid;
}

// Pool-adjacent-violators along one line of the grid: the nearest values (least squares) that do
// not fall.
void LevelLine(std::vector<double>& values, const std::vector<double>& weights, size_t first,
               size_t stride, size_t count) {
  struct Block {
    double value;
    double weight;
    size_t size;
  };
  std::vector<Block> blocks;
  for (size_t i = 0; i < count; ++i) {
    blocks.push_back({values[first + i * stride], weights[first + i * stride], 1});
    while (blocks.size() > 1 && blocks[blocks.size() - 2].value > blocks.back().value) {
      const Block last = blocks.back();
      blocks.pop_back();
      Block& before = blocks.back();
      const double weight = before.weight + last.weight;
      before.value = (before.value * before.weight + last.value * last.weight) / weight;
      before.weight = weight;
      before.size += last.size;
    }
  }
  size_t i = 0;
  for (const Block& block : blocks)
    for (size_t n = 0; n < block.size; ++n, ++i) values[first + i * stride] = block.value;
}

// Dykstra's alternating projections onto "does not fall along rows" and "along tokens" go to the
// isotonic regression of the grid. The last step takes out what rounding leaves.
void Level(Grid& grid) {
  const size_t rows = grid.rows.size();
  const size_t tokens = grid.tokens.size();
  std::vector<double> by_rows(grid.log_us.size());
  std::vector<double> by_tokens(grid.log_us.size());
  for (int sweep = 0; sweep < 100; ++sweep) {
    const std::vector<double> start = grid.log_us;
    std::vector<double> shifted = start;
    for (size_t i = 0; i < shifted.size(); ++i) shifted[i] += by_rows[i];
    grid.log_us = shifted;
    for (size_t t = 0; t < tokens; ++t) LevelLine(grid.log_us, grid.weights, t, tokens, rows);
    for (size_t i = 0; i < shifted.size(); ++i) {
      by_rows[i] = shifted[i] - grid.log_us[i];
      shifted[i] = grid.log_us[i] + by_tokens[i];
    }
    grid.log_us = shifted;
    for (size_t r = 0; r < rows; ++r) LevelLine(grid.log_us, grid.weights, r * tokens, 1, tokens);
    double change = 0;
    for (size_t i = 0; i < shifted.size(); ++i) {
      by_tokens[i] = shifted[i] - grid.log_us[i];
      change = std::max(change, std::abs(grid.log_us[i] - start[i]));
    }
    if (change < 1e-9) break;
  }
  for (size_t r = 0; r < rows; ++r) {
    for (size_t t = 0; t < tokens; ++t) {
      if (r > 0) grid.At(r, t) = std::max(grid.At(r, t), grid.At(r - 1, t));
      if (t > 0) grid.At(r, t) = std::max(grid.At(r, t), grid.At(r, t - 1));
    }
  }
}

absl::StatusOr<ComputeTable> TableOf(const Points& points) {
  Grid grid = MakeGrid(points);
  if (grid.rows.size() > kMaxTablePoints || grid.tokens.size() > kMaxTablePoints) {
    return absl::InvalidArgumentError(
        absl::StrCat("compute samples of ", grid.rows.size(), " numbers of rows and ",
                     grid.tokens.size(), " of tokens, allowed ", kMaxTablePoints, " of each"));
  }
  Level(grid);
  std::vector<float> us;
  for (const double value : grid.log_us) us.push_back(static_cast<float>(std::exp(value)));
  return ComputeTable::Make(grid.rows, grid.tokens, us);
}

}  // namespace

absl::StatusOr<ComputeTable> FitCompute(std::span<const ComputeSample> samples, RecordFormat format,
                                        ComputeRegime regime) {
  const auto points = MediansByPoint(samples, format, regime);
  if (!points.ok()) return points.status();
  return TableOf(*points);
}

absl::StatusOr<LeaveOutError> LeaveOneOut(std::span<const ComputeSample> samples,
                                          RecordFormat format, ComputeRegime regime) {
  const auto points = MediansByPoint(samples, format, regime);
  if (!points.ok()) return points.status();
  const auto whole = TableOf(*points);
  if (!whole.ok()) return whole.status();
  LeaveOutError error;
  for (const auto& [point, us] : *points) {
    const auto [rows, tokens] = point;
    if (rows == whole->rows().front() || rows == whole->rows().back() ||
        tokens == whole->tokens().front() || tokens == whole->tokens().back()) {
      continue;
    }
    Points others;
    for (const auto& [other, other_us] : *points)
      if (other.first != rows && other.second != tokens) others[other] = other_us;
    const auto table = TableOf(others);
    if (!table.ok()) return table.status();
    const double off = std::abs(table->UsAt(rows, tokens) / us - 1);
    error.mean += off;
    error.worst = std::max(error.worst, off);
    ++error.points;
  }
  if (error.points == 0) {
    return absl::FailedPreconditionError(absl::StrCat("a grid of ", whole->rows().size(), " x ",
                                                      whole->tokens().size(),
                                                      " points has no inner one to leave out"));
  }
  error.mean /= error.points;
  return error;
}

}  // namespace latentd
