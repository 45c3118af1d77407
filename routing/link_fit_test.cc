#include "routing/link_fit.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "routing/robust_stats.h"

namespace latentd {
namespace {

TEST_CASE("a median and a trimmed mean pass over outliers") {
  CHECK(Median({3, 1, 1e9}) == 3);
  CHECK(Median({4, 1, 2, 1e9}) == 3);
  CHECK(Median({7}) == 7);
  CHECK(std::isnan(Median({})));
  CHECK(TrimmedMean({1, 2, 3, 4, 1e9, -1e9}, 0.2) == 2.5);
  CHECK(TrimmedMean({1, 2, 6}, 0) == 3);
  CHECK(TrimmedMean({5, 7}, 0.49) == 6);
  CHECK(std::isnan(TrimmedMean({}, 0.1)));
}

TEST_CASE("a weighted median is where half of the weight lies") {
  CHECK(WeightedMedian({{1, 1}, {2, 1}, {3, 5}}) == 3);
  CHECK(WeightedMedian({{3, 1}, {1, 5}, {2, 1}}) == 1);
  CHECK(std::isnan(WeightedMedian({})));
  CHECK(std::isnan(WeightedMedian({{1, 0}})));
}

// The study's link: a probe of 16 us, 25 GB/s.
std::vector<LinkSample> Samples(uint32_t seed, double noise, double outliers) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> share(0, 1);
  std::vector<LinkSample> samples;
  for (uint64_t bytes = 64; bytes <= (4u << 20); bytes *= 2) {
    for (int i = 0; i < 21; ++i) {
      double us = (16 + static_cast<double>(bytes) / 25000) * (1 + noise * (share(random) - 0.5));
      if (share(random) < outliers) us *= 50;
      samples.push_back({bytes, us});
    }
  }
  return samples;
}

TEST_CASE("probe and bandwidth come out of exact timings exactly") {
  const LinkFit fit = FitLink(Samples(1, 0, 0)).value();
  CHECK(fit.fixed_us == Approx(16));
  CHECK(fit.bandwidth_bytes_per_us == Approx(25000));
  CHECK(fit.relative_error < 1e-9);
}

TEST_CASE("a tenth of the timings being 50 times too long hardly moves probe and bandwidth") {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    const LinkFit fit = FitLink(Samples(seed, 0.1, 0.1)).value();
    CHECK(fit.fixed_us == Approx(16).epsilon(0.05));
    CHECK(fit.bandwidth_bytes_per_us == Approx(25000).epsilon(0.05));
    CHECK(fit.relative_error < 0.05);
  }
}

TEST_CASE("two whole sizes that are off hardly move the fit") {
  std::vector<LinkSample> samples = Samples(3, 0, 0);
  for (LinkSample& sample : samples)
    if (sample.bytes == 1024 || sample.bytes == 65536) sample.us *= 10;
  const LinkFit fit = FitLink(samples).value();
  CHECK(fit.fixed_us == Approx(16).epsilon(0.05));
  CHECK(fit.bandwidth_bytes_per_us == Approx(25000).epsilon(0.05));
}

TEST_CASE("a fit never says that a message is free") {
  const LinkFit fit = FitLink(std::vector<LinkSample>{{100, 1}, {200, 3}, {300, 5}}).value();
  CHECK(fit.fixed_us > 0);
}

TEST_CASE("timings that say nothing of a link are refused and named") {
  CHECK(absl::IsInvalidArgument(FitLink({}).status()));
  CHECK(absl::IsInvalidArgument(FitLink(std::vector<LinkSample>{{8, 1}, {8, 2}}).status()));
  for (const double us : {0.0, -3.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    const auto status = FitLink(std::vector<LinkSample>{{8, 1}, {4096, us}}).status();
    CHECK(absl::IsInvalidArgument(status));
    CHECK(std::string(status.message()).find("4096 bytes") != std::string::npos);
  }
  CHECK(absl::IsFailedPrecondition(FitLink(std::vector<LinkSample>{{8, 2}, {16, 1}}).status()));
}

}  // namespace
}  // namespace latentd
