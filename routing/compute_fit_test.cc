#include "routing/compute_fit.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "routing/compute_table.h"

namespace latentd {
namespace {

constexpr RecordFormat kFormat = RecordFormat::kBf16;
constexpr ComputeRegime kRegime = ComputeRegime::kLatency;

// A launch, then the slower of reading the records and multiplying.
double DeviceUs(double rows, double tokens) {
  return 12 + std::max(tokens * 1152 / 2.9e6, rows * tokens * 3.4e-6) + 0.002 * rows;
}

std::vector<ComputeSample> Samples(uint32_t seed, double noise, double outliers) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> share(0, 1);
  std::vector<ComputeSample> samples;
  for (uint32_t rows = 1; rows <= 8192; rows *= 2) {
    for (uint32_t tokens = 64; tokens <= 131072; tokens *= 2) {
      for (int i = 0; i < 11; ++i) {
        double us = DeviceUs(rows, tokens) * (1 + noise * (share(random) - 0.5));
        if (share(random) < outliers) us *= 30;
        samples.push_back({rows, tokens, kFormat, kRegime, us});
      }
    }
  }
  return samples;
}

TEST_CASE("a table predicts within 5 % between its points, outliers or not") {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    INFO("seed " << seed);
    const ComputeTable table = FitCompute(Samples(seed, 0.06, 0.1), kFormat, kRegime).value();
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> log_rows(0, std::log(8192));
    std::uniform_real_distribution<double> log_tokens(std::log(64), std::log(131072));
    double sum = 0;
    for (int i = 0; i < 500; ++i) {
      const double rows = std::exp(log_rows(random));
      const double tokens = std::exp(log_tokens(random));
      sum += std::abs(table.UsAt(rows, tokens) / DeviceUs(rows, tokens) - 1);
    }
    CHECK(sum / 500 < 0.05);
  }
}

TEST_CASE("predictions do not fall with rows or tokens, whatever the samples") {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> log_us(0, 8);
    std::vector<ComputeSample> samples;
    for (int i = 0; i < 60; ++i) {
      samples.push_back({1 + static_cast<uint32_t>(random() % 12) * 40,
                         1 + static_cast<uint32_t>(random() % 12) * 100, kFormat, kRegime,
                         std::exp(log_us(random))});
    }
    const ComputeTable table = FitCompute(samples, kFormat, kRegime).value();
    for (int i = 0; i < 500; ++i) {
      const double rows = 1 + random() % 1000;
      const double tokens = 1 + random() % 3000;
      const double more = 1 + random() % 200;
      const double us = table.UsAt(rows, tokens);
      REQUIRE(us > 0);
      REQUIRE(table.UsAt(rows + more, tokens) >= us * (1 - 1e-12));
      REQUIRE(table.UsAt(rows, tokens + more) >= us * (1 - 1e-12));
    }
  }
}

TEST_CASE("samples that do not fall are kept as they are") {
  const std::vector<ComputeSample> samples = {
      {1, 64, kFormat, kRegime, 10},
      {1, 2048, kFormat, kRegime, 20},
      {128, 64, kFormat, kRegime, 15},
      {128, 2048, kFormat, kRegime, 40},
  };
  const ComputeTable table = FitCompute(samples, kFormat, kRegime).value();
  for (const ComputeSample& sample : samples)
    CHECK(table.UsAt(sample.rows, sample.tokens) == Approx(sample.us));
  CHECK(table.UsAt(1, 1056) == Approx(15));
  CHECK(table.UsAt(1, 1) == Approx(10));        // a launch takes what it takes
  CHECK(table.UsAt(256, 4096) == Approx(160));  // beyond the grid in proportion
}

TEST_CASE("times that fall are levelled by their logarithms' means") {
  const std::vector<ComputeSample> samples = {{1, 64, kFormat, kRegime, 40},
                                              {1, 128, kFormat, kRegime, 10}};
  const ComputeTable table = FitCompute(samples, kFormat, kRegime).value();
  CHECK(table.UsAt(1, 64) == Approx(20));
  CHECK(table.UsAt(1, 128) == Approx(20));
}

TEST_CASE("a point that nobody timed is taken carefully") {
  const std::vector<ComputeSample> samples = {{1, 64, kFormat, kRegime, 10},
                                              {128, 64, kFormat, kRegime, 20},
                                              {1, 2048, kFormat, kRegime, 30}};
  const ComputeTable table = FitCompute(samples, kFormat, kRegime).value();
  CHECK(table.UsAt(128, 2048) >= 30);
  CHECK(table.UsAt(128, 64) == Approx(20));
}

TEST_CASE("leaving points out says how far off the table is") {
  const LeaveOutError error = LeaveOneOut(Samples(1, 0.04, 0.1), kFormat, kRegime).value();
  CHECK(error.points == 12 * 10);
  CHECK(error.mean < 0.08);
  CHECK(error.worst >= error.mean);

  std::vector<ComputeSample> wrong = Samples(1, 0, 0);
  for (ComputeSample& sample : wrong)
    if (sample.rows == 64 && sample.tokens == 1024) sample.us *= 5;
  CHECK(LeaveOneOut(wrong, kFormat, kRegime).value().worst > 0.5);

  const std::vector<ComputeSample> edges = {{1, 64, kFormat, kRegime, 10}};
  CHECK(absl::IsFailedPrecondition(LeaveOneOut(edges, kFormat, kRegime).status()));
}

TEST_CASE("formats and regimes are fitted apart") {
  std::vector<ComputeSample> samples = {{1, 64, kFormat, kRegime, 10},
                                        {1, 64, RecordFormat::kFp8, kRegime, 20},
                                        {1, 64, kFormat, ComputeRegime::kThroughput, 30}};
  CHECK(FitCompute(samples, RecordFormat::kFp8, kRegime).value().UsAt(1, 1) == Approx(20));
  CHECK(FitCompute(samples, kFormat, ComputeRegime::kThroughput).value().UsAt(1, 1) == Approx(30));
  CHECK(absl::IsNotFound(
      FitCompute(samples, RecordFormat::kFp8, ComputeRegime::kThroughput).status()));
}

TEST_CASE("samples that are no timings are refused") {
  const auto refused = [](ComputeSample sample) {
    return absl::IsInvalidArgument(
        FitCompute(std::vector<ComputeSample>{sample}, kFormat, kRegime).status());
  };
  CHECK(refused({0, 64, kFormat, kRegime, 10}));
  CHECK(refused({1, 0, kFormat, kRegime, 10}));
  CHECK(refused({1, 64, kFormat, kRegime, -1}));
  CHECK(refused({1, 64, kFormat, kRegime, std::nan("")}));
  CHECK(refused({1, 64, kFormat, kRegime, 1e300}));
  std::vector<ComputeSample> many;
  for (uint32_t i = 1; i <= 17; ++i) many.push_back({i, 64, kFormat, kRegime, 10});
  CHECK(absl::IsInvalidArgument(FitCompute(many, kFormat, kRegime).status()));
}

TEST_CASE("a table with an absurd point is refused, and the point is named") {
  const std::vector<uint32_t> rows = {1, 128};
  const std::vector<uint32_t> tokens = {64, 2048};
  const auto message = [&](std::vector<float> us) {
    const auto table = ComputeTable::Make(rows, tokens, us);
    CHECK(absl::IsInvalidArgument(table.status()));
    return std::string(table.status().message());
  };
  CHECK(ComputeTable::Make(rows, tokens, std::vector<float>{10, 20, 15, 40}).ok());
  CHECK(message({10, 20, 15, -3}).find("-3 us at 128 rows x 2048 tokens") != std::string::npos);
  CHECK(message({10, 20, 15, 0}).find("allowed") != std::string::npos);
  CHECK(message({10, 20, std::nanf(""), 40}).find("128 rows x 64") != std::string::npos);
  CHECK(message({10, 20, 15, 1e9F}).find("allowed") != std::string::npos);
  CHECK(message({10, 20, 9, 40}).find("9 us at 128 rows x 64") != std::string::npos);  // falls
  CHECK(message({10, 20, 15}).find("3 times") != std::string::npos);
  // As fast as no device is.
  const std::vector<uint32_t> big = {1u << 20};
  CHECK_FALSE(ComputeTable::Make(big, big, std::vector<float>{1}).ok());
  const std::vector<uint32_t> falling = {4, 2};
  CHECK_FALSE(ComputeTable::Make(falling, tokens, std::vector<float>{1, 1, 1, 1}).ok());
  CHECK_FALSE(ComputeTable::Make({}, tokens, {}).ok());
  const std::vector<uint32_t> zero = {0, 2};
  CHECK_FALSE(ComputeTable::Make(zero, tokens, std::vector<float>{1, 1, 1, 1}).ok());
}

TEST_CASE("a table that nobody filled is slow, not free") {
  CHECK(ComputeTable().UsAt(1, 1) > 1e7);
}

}  // namespace
}  // namespace latentd
