// What benchmarks report of many measurements. Pure; any thread.
#ifndef LATENTD_TOOLS_STATISTICS_H_
#define LATENTD_TOOLS_STATISTICS_H_

#include <cstdint>
#include <span>
#include <vector>

namespace latentd {

struct Percentiles {
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// The smallest value that the given share of the values does not exceed. All 0 for no values.
Percentiles PercentilesOf(std::vector<double> values);

// How far one row's answer is from what was expected.
struct RowError {
  double out_relative_l2 = 0;  // |got - expected| / |expected|; absolute where expected is all 0
  double lse = 0;              // |got - expected|; 0 for two of -inf
};

RowError CompareRow(std::span<const float> out, float lse, std::span<const float> expected_out,
                    float expected_lse);

// The worst of many rows. A NaN is worse than anything.
struct WorstError {
  uint64_t rows = 0;
  uint64_t wrong = 0;  // rows beyond a bound
  double out_relative_l2 = 0;
  double lse = 0;

  void Add(const RowError& error);
  void Add(const WorstError& other);
};

// What every answer must keep to, whatever lies on how many holders.
inline constexpr double kOutBound = 4e-3;
inline constexpr double kLseBound = 1e-3;

}  // namespace latentd

#endif  // LATENTD_TOOLS_STATISTICS_H_
