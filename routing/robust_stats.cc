#include "routing/robust_stats.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace latentd {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

}  // namespace

double Median(std::vector<double> values) {
  if (values.empty()) return kNothing;
  const size_t upper = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + upper, values.end());
  if (values.size() % 2 == 1) return values[upper];
  return (values[upper] + *std::max_element(values.begin(), values.begin() + upper)) / 2;
}

double TrimmedMean(std::vector<double> values, double trim) {
  if (values.empty()) return kNothing;
  std::sort(values.begin(), values.end());
  const size_t count = values.size();
  const size_t cut =
      std::min(static_cast<size_t>(trim * static_cast<double>(count)), (count - 1) / 2);
  double sum = 0;
  for (size_t i = cut; i < count - cut; ++i) sum += values[i];
  return sum / static_cast<double>(count - 2 * cut);
}

double WeightedMedian(std::vector<Weighted> values) {
  std::sort(values.begin(), values.end(),
            [](const Weighted& a, const Weighted& b) { return a.value < b.value; });
  double total = 0;
  for (const Weighted& one : values) total += one.weight;
  double below = 0;
  for (const Weighted& one : values) {
    below += one.weight;
    if (below > 0 && 2 * below >= total) return one.value;
  }
  return kNothing;
}

double MeanAbsoluteRelativeError(std::span<const double> predicted,
                                 std::span<const double> measured) {
  if (measured.empty()) return kNothing;
  double sum = 0;
  for (size_t i = 0; i < measured.size(); ++i) sum += std::abs(predicted[i] / measured[i] - 1);
  return sum / static_cast<double>(measured.size());
}

}  // namespace latentd
