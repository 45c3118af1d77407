// Timed batches of a device → its `ComputeTable`, and how well the table predicts what it was not
// shown.
//
// Pure functions; any thread.
#ifndef LATENTD_ROUTING_COMPUTE_FIT_H_
#define LATENTD_ROUTING_COMPUTE_FIT_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/mla.h"
#include "routing/compute_table.h"

namespace latentd {

struct ComputeSample {
  uint32_t rows = 0;
  uint32_t tokens = 0;
  RecordFormat format = RecordFormat::kBf16;
  ComputeRegime regime = ComputeRegime::kLatency;
  double us = 0;
};

// The table of the samples of one format and regime. Each point of the grid gets the median of its
// samples; a point that nobody timed gets the least time of a point that has no fewer rows and
// tokens, or else grows in proportion from the nearest smaller one; and where noise makes time
// fall, isotonic regression (of the logarithms, since errors count in proportion) levels it.
// NOT_FOUND: no samples of this format and regime. INVALID_ARGUMENT: a sample of zero rows or
// tokens or without a finite positive time, more than kMaxTablePoints different rows or tokens, or
// a table that ComputeTable::Make refuses.
absl::StatusOr<ComputeTable> FitCompute(std::span<const ComputeSample> samples, RecordFormat format,
                                        ComputeRegime regime);

struct LeaveOutError {
  double mean = 0;  // of |predicted / median - 1| over the points left out
  double worst = 0;
  uint32_t points = 0;
};

// Each inner point of the grid (not at an edge: beyond the grid a table is careful rather than
// right) is predicted by a table that has neither its rows nor its tokens, so from points twice as
// far apart as the whole table's. FAILED_PRECONDITION: the grid has no inner point. Otherwise as
// FitCompute.
absl::StatusOr<LeaveOutError> LeaveOneOut(std::span<const ComputeSample> samples,
                                          RecordFormat format, ComputeRegime regime);

}  // namespace latentd

#endif  // LATENTD_ROUTING_COMPUTE_FIT_H_
