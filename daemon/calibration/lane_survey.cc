#include "daemon/calibration/lane_survey.h"

#include <algorithm>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/calibration/compute_survey.h"
#include "daemon/lane/steady_time.h"

namespace latentd {
namespace {

// After an interruption: requests often come in trains.
constexpr absl::Duration kFirstPause = absl::Milliseconds(20);
constexpr absl::Duration kLongestPause = absl::Seconds(1);

class Surveyor {
 public:
  Surveyor(Lane& lane, const LaneSurveyOptions& options, const WaitOrEnd& wait)
      : lane_(lane),
        options_(options),
        wait_(wait),
        survey_({.format = lane.options().layout.record_format,
                 .heads = options.heads,
                 .longest_batch_us = absl::ToDoubleMicroseconds(options.longest_batch)}) {}

  absl::StatusOr<LaneTables> Run() {
    absl::Status trouble;
    while (const auto point = survey_.Next()) {
      trouble = TimePoint(*point);
      if (absl::IsDeadlineExceeded(trouble)) break;
      if (!trouble.ok()) return trouble;
    }
    const auto latency = survey_.Table(ComputeRegime::kLatency);
    const auto throughput = survey_.Table(ComputeRegime::kThroughput);
    if (!latency.ok() || !throughput.ok()) {
      if (!trouble.ok()) return trouble;
      if (!skipped_.ok()) return skipped_;
      return latency.ok() ? throughput.status() : latency.status();
    }
    return LaneTables{*latency, *throughput, survey_.points_timed(), trouble};
  }

 private:
  absl::Status TimePoint(const SurveyPoint& point) {
    const absl::Time give_up = SteadyNow() + options_.patience;
    std::vector<double> times;
    for (absl::Duration pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
      const absl::Time began = SteadyNow();
      const absl::StatusOr<BatchTimes> answer = TimeBatches(point, point.batches - times.size());
      const absl::Duration took = SteadyNow() - began;
      if (absl::IsResourceExhausted(answer.status())) {
        skipped_ = answer.status();
        survey_.Skip();
        return absl::OkStatus();
      }
      if (!answer.ok() && !absl::IsAborted(answer.status())) return answer.status();
      if (answer.ok()) times.insert(times.end(), answer->us.begin(), answer->us.end());
      const bool enough = times.size() >= (point.batches + 1) / 2;
      const absl::Duration rest = took * (1 / std::clamp(options_.share, 1e-3, 1.0) - 1);
      const bool end = wait_(Pause::kRest, rest) || (!enough && wait_(Pause::kBackOff, pause));
      if (end) return absl::CancelledError("the calibration was ended");
      if (enough) {
        survey_.Add(times);
        return absl::OkStatus();
      }
      if (SteadyNow() > give_up) {
        return absl::DeadlineExceededError(
            absl::StrCat("it was too busy for ", absl::FormatDuration(options_.patience)));
      }
    }
  }

  absl::StatusOr<BatchTimes> TimeBatches(const SurveyPoint& point, size_t batches) {
    auto answer = std::make_shared<std::promise<absl::StatusOr<BatchTimes>>>();
    std::future<absl::StatusOr<BatchTimes>> times = answer->get_future();
    lane_.TimeBatches(
        {.query_tokens = point.query_tokens,
         .heads = point.heads,
         .visible_tokens = point.tokens,
         .keep_busy = point.regime == ComputeRegime::kThroughput,
         .warmups = point.warmups,
         .batches = static_cast<uint32_t>(batches)},
        [answer](absl::StatusOr<BatchTimes> result) { answer->set_value(std::move(result)); });
    return times.get();
  }

  Lane& lane_;
  const LaneSurveyOptions& options_;
  const WaitOrEnd& wait_;
  ComputeSurvey survey_;
  absl::Status skipped_;  // the last point that there was no room for
};

}  // namespace

absl::StatusOr<LaneTables> SurveyLane(Lane& lane, const LaneSurveyOptions& options,
                                      const WaitOrEnd& wait) {
  absl::StatusOr<LaneTables> tables = Surveyor(lane, options, wait).Run();
  std::promise<void> ended;
  lane.EndTrials([&ended] { ended.set_value(); });
  ended.get_future().wait();
  return tables;
}

}  // namespace latentd
