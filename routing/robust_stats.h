// Statistics for timings, in which single values may be off by any amount (a page fault, another
// process): a few such outliers hardly move any of these.
//
// Pure functions; any thread.
#ifndef LATENTD_ROUTING_ROBUST_STATS_H_
#define LATENTD_ROUTING_ROBUST_STATS_H_

#include <span>
#include <vector>

namespace latentd {

// The middle value, or the mean of the middle two. NaN: no values. Half of the values may be off.
double Median(std::vector<double> values);

// The mean of what is left without the `trim` share of the values at either end. NaN: no values.
// REQUIRES: 0 <= trim < 0.5.
double TrimmedMean(std::vector<double> values, double trim);

struct Weighted {
  double value = 0;
  double weight = 0;
};

// The least value with half of the weight at or below it. NaN: no positive weight.
double WeightedMedian(std::vector<Weighted> values);

// The mean of |predicted / measured - 1|. NaN: nothing was measured. REQUIRES: equal sizes,
// measured > 0.
double MeanAbsoluteRelativeError(std::span<const double> predicted,
                                 std::span<const double> measured);

}  // namespace latentd

#endif  // LATENTD_ROUTING_ROBUST_STATS_H_
