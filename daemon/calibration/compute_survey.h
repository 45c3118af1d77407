// `ComputeSurvey` is the order in which a device is timed: a grid of rows x tokens in each regime,
// from small to large, leaving out what would take longer than one batch may. All of it is gone
// through several times, so that what disturbs the machine for a while spoils some times of many
// points rather than all of one. It ends with the device's tables.
//
//     while (const auto point = survey.Next()) survey.Add(times of point) or survey.Skip();
//
// Pure: time a batch, say how long it took. Any one thread.
#ifndef LATENTD_DAEMON_CALIBRATION_COMPUTE_SURVEY_H_
#define LATENTD_DAEMON_CALIBRATION_COMPUTE_SURVEY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/mla.h"
#include "routing/compute_fit.h"
#include "routing/compute_table.h"

namespace latentd {

struct SurveyLimits {
  RecordFormat format = RecordFormat::kBf16;
  uint32_t heads = 16;        // of the model: larger batches have several query tokens
  uint32_t most_rows = 4096;  // of a batch
  uint32_t most_tokens = 8192;
  double longest_batch_us = 20'000;  // a request that comes may have to wait for one to end
};

struct SurveyPoint {
  uint32_t rows = 0;
  uint32_t tokens = 0;
  ComputeRegime regime = ComputeRegime::kLatency;
  // rows = query_tokens * heads.
  uint32_t query_tokens = 0;
  uint32_t heads = 0;
  uint32_t warmups = 0;  // batches first that are not timed
  uint32_t batches = 0;  // that are: more of the short ones, whose times spread more
};

class ComputeSurvey {
 public:
  static constexpr uint32_t kRounds = 5;

  explicit ComputeSurvey(const SurveyLimits& limits);

  // What is to be timed now; nothing when all has been.
  std::optional<SurveyPoint> Next();
  // Of the point that Next said, which is done.
  void Add(std::span<const double> us);
  // It cannot be timed, nor can those with more tokens.
  void Skip();

  // At most: points that turn out to take too long are left out.
  size_t points() const { return rows_.size() * tokens_.size() * kRegimes; }
  size_t points_timed() const { return timed_; }
  // As FitCompute.
  absl::StatusOr<ComputeTable> Table(ComputeRegime regime) const;

 private:
  static constexpr size_t kRegimes = 2;

  // Of this regime.
  double& MedianAt(size_t row, size_t token) {
    const size_t regime = static_cast<size_t>(regime_);
    return medians_[(regime * rows_.size() + row) * tokens_.size() + token];
  }
  // As timed, or from the neighbours that have been, in proportion: not less than what it takes.
  // Infinite if a neighbour, or it, was left out.
  double Expected(size_t row, size_t token);
  void Advance();

  const SurveyLimits limits_;
  std::vector<uint32_t> rows_;
  std::vector<uint32_t> tokens_;
  std::vector<double> medians_;  // of the first round: [regimes][rows][tokens]; infinite: not timed
  uint32_t round_ = 0;
  size_t row_ = 0;
  size_t token_ = 0;
  ComputeRegime regime_ = ComputeRegime::kLatency;
  size_t timed_ = 0;
  std::vector<ComputeSample> samples_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_CALIBRATION_COMPUTE_SURVEY_H_
