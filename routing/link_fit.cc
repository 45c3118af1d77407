#include "routing/link_fit.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "routing/robust_stats.h"

namespace latentd {
namespace {

struct Point {
  double bytes;
  double us;
};

absl::StatusOr<std::vector<Point>> MediansBySize(std::span<const LinkSample> samples) {
  std::map<uint64_t, std::vector<double>> by_size;
  for (const LinkSample& sample : samples) {
    if (!std::isfinite(sample.us) || sample.us <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("link sample of ", sample.bytes, " bytes: ", sample.us, " us is no time"));
    }
    by_size[sample.bytes].push_back(sample.us);
  }
  if (by_size.size() < 2 || by_size.size() > kMaxLinkSizes) {
    return absl::InvalidArgumentError(
        absl::StrCat("link samples of ", by_size.size(), " sizes, allowed 2..", kMaxLinkSizes));
  }
  std::vector<Point> points;
  for (auto& [bytes, times] : by_size)
    points.push_back({static_cast<double>(bytes), Median(std::move(times))});
  return points;
}

double SlopeOf(const std::vector<Point>& points) {
  std::vector<Weighted> slopes;
  for (size_t i = 0; i < points.size(); ++i) {
    for (size_t j = i + 1; j < points.size(); ++j) {
      const double distance = points[j].bytes - points[i].bytes;
      slopes.push_back({(points[j].us - points[i].us) / distance, distance});
    }
  }
  return WeightedMedian(std::move(slopes));
}

}  // namespace

absl::StatusOr<LinkFit> FitLink(std::span<const LinkSample> samples) {
  const auto points = MediansBySize(samples);
  if (!points.ok()) return points.status();
  const double slope = SlopeOf(*points);
  if (!(slope > 0)) {
    return absl::FailedPreconditionError(
        absl::StrCat("link samples of ", points->front().bytes, "..", points->back().bytes,
                     " bytes: larger ones take no longer, no bandwidth can be told from them"));
  }
  std::vector<Weighted> rests;
  for (const Point& point : *points)
    rests.push_back({point.us - slope * point.bytes, 1 / point.us});
  LinkFit fit;
  // A rest below zero is noise; some share of the quickest message is certainly not its bytes.
  fit.fixed_us = std::max(WeightedMedian(std::move(rests)), points->front().us / 100);
  fit.bandwidth_bytes_per_us = 1 / slope;
  std::vector<double> predicted;
  std::vector<double> measured;
  for (const Point& point : *points) {
    predicted.push_back(fit.fixed_us + slope * point.bytes);
    measured.push_back(point.us);
  }
  fit.relative_error = MeanAbsoluteRelativeError(predicted, measured);
  return fit;
}

}  // namespace latentd
