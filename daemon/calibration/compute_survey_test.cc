// The grid over which a device is timed, with devices that are formulas.
#include "daemon/calibration/compute_survey.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <set>
#include <utility>

namespace latentd {
namespace {

using Device = std::function<double(const SurveyPoint&)>;

// Runs the survey and says which points were timed.
std::vector<SurveyPoint> Run(ComputeSurvey& survey, const Device& device) {
  std::vector<SurveyPoint> timed;
  while (const auto point = survey.Next()) {
    const double us = device(*point);
    // One in five is off by far.
    std::vector<double> times(point->batches, us);
    for (size_t i = 0; i < times.size(); i += 5) times[i] = 40 * us;
    if (times.size() < 9) times.assign(times.size(), us);
    survey.Add(times);
    timed.push_back(*point);
    REQUIRE(timed.size() <= ComputeSurvey::kRounds * survey.points());
  }
  return timed;
}

double Linear(const SurveyPoint& point) {
  return 12 +
         0.001 * point.rows * point.tokens * (point.regime == ComputeRegime::kThroughput ? 2 : 1);
}

TEST_CASE("a survey times both regimes and gives tables that are monotone and right") {
  ComputeSurvey survey({.heads = 16});
  const auto timed = Run(survey, Linear);
  CHECK(ComputeSurvey::kRounds * survey.points_timed() == timed.size());
  for (const ComputeRegime regime : {ComputeRegime::kLatency, ComputeRegime::kThroughput}) {
    const auto table = survey.Table(regime);
    REQUIRE(table.ok());
    for (const SurveyPoint& point : timed) {
      if (point.regime != regime) continue;
      CHECK(table->UsAt(point.rows, point.tokens) == Approx(Linear(point)).epsilon(1e-4));
    }
    CHECK(table->UsAt(4096, 8192) > table->UsAt(4096, 4096));
    CHECK(table->UsAt(4096, 4096) > table->UsAt(1024, 4096));
  }
}

TEST_CASE("no batch is longer than a request may have to wait") {
  const double longest = GENERATE(500.0, 20'000.0);
  ComputeSurvey survey({.longest_batch_us = longest});
  std::set<std::pair<uint32_t, uint32_t>> points;
  for (const SurveyPoint& point : Run(survey, Linear)) {
    CHECK(Linear(point) <= longest);
    CHECK(point.batches >= 1);
    CHECK(point.warmups >= 2);
    points.emplace(point.rows, point.tokens);
  }
  CHECK(points.contains({1, 8192}));
  CHECK_FALSE(points.contains({4096, 8192}));
}

TEST_CASE("a device that is too slow for anything is timed at its smallest batch alone") {
  ComputeSurvey survey({});
  const auto timed = Run(survey, [](const SurveyPoint&) { return 1e6; });
  CHECK(timed.size() == 2 * ComputeSurvey::kRounds);  // one in each regime
  const auto table = survey.Table(ComputeRegime::kLatency);
  REQUIRE(table.ok());
  CHECK(table->UsAt(64, 4096) > 1e6);
}

TEST_CASE("batches have whole query tokens of the model's heads") {
  const uint32_t heads = GENERATE(1u, 16u, 20u, 128u, 0u, 1000u);
  ComputeSurvey survey({.heads = heads});
  uint32_t most = 0;
  while (const auto point = survey.Next()) {
    CHECK(point->query_tokens * point->heads == point->rows);
    CHECK(point->heads <= kMaxHeads);
    most = std::max(most, point->rows);
    survey.Add(std::vector<double>{1.0});
  }
  CHECK(most > 4000);
}

TEST_CASE("what the cache has no room for is left out, and the rest goes on") {
  ComputeSurvey survey({});
  std::set<uint32_t> tokens;
  while (const auto point = survey.Next()) {
    if (point->tokens > 1024) {
      survey.Skip();
      continue;
    }
    survey.Add(std::vector<double>{Linear(*point)});
    tokens.insert(point->tokens);
  }
  CHECK(tokens == std::set<uint32_t>{64, 256, 1024});
  CHECK(survey.Table(ComputeRegime::kThroughput).ok());
}

TEST_CASE("a survey in which nothing could be timed has no table") {
  ComputeSurvey survey({});
  while (survey.Next().has_value()) survey.Skip();
  CHECK_FALSE(survey.Table(ComputeRegime::kLatency).ok());
}

}  // namespace
}  // namespace latentd
