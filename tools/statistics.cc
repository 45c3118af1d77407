#include "tools/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace latentd {
namespace {

double Worse(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return std::max(a, b);
}

}  // namespace

Percentiles PercentilesOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values[std::max<size_t>(rank, 1) - 1];
  };
  return {at(0.5), at(0.9), at(0.99), values.back()};
}

RowError CompareRow(std::span<const float> out, float lse, std::span<const float> expected_out,
                    float expected_lse) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < expected_out.size(); ++i) {
    const double d = double{out[i]} - double{expected_out[i]};
    difference += d * d;
    norm += double{expected_out[i]} * double{expected_out[i]};
  }
  RowError error;
  error.out_relative_l2 = std::sqrt(difference) / (norm > 0 ? std::sqrt(norm) : 1);
  error.lse = lse == expected_lse ? 0 : std::abs(double{lse} - double{expected_lse});
  return error;
}

void WorstError::Add(const RowError& error) {
  ++rows;
  // Written so that a NaN is wrong.
  if (!(error.out_relative_l2 <= kOutBound && error.lse <= kLseBound)) ++wrong;
  out_relative_l2 = Worse(out_relative_l2, error.out_relative_l2);
  lse = Worse(lse, error.lse);
}

void WorstError::Add(const WorstError& other) {
  rows += other.rows;
  wrong += other.wrong;
  out_relative_l2 = Worse(out_relative_l2, other.out_relative_l2);
  lse = Worse(lse, other.lse);
}

}  // namespace latentd
