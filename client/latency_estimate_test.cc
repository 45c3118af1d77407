#include "client/latency_estimate.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("nothing is said about a stream of which too little is known") {
  LatencyEstimate estimate;
  for (uint32_t i = 0; i + 1 < LatencyEstimate::kLeastSamples; ++i) {
    estimate.Add(5000);
    CHECK_FALSE(estimate.QuantileNs(0.5).has_value());
  }
  estimate.Add(5000);
  CHECK(estimate.QuantileNs(0.5).has_value());
}

TEST_CASE("a quantile is at least the true one and at most an eighth more") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    std::lognormal_distribution<double> latency(9 + static_cast<double>(seed % 10), 0.8);
    LatencyEstimate estimate;
    std::vector<uint64_t> all;
    for (uint32_t i = 0; i < LatencyEstimate::kMostSamples - 1; ++i) {
      all.push_back(1024 + static_cast<uint64_t>(latency(random)));
      estimate.Add(all.back());
    }
    std::sort(all.begin(), all.end());
    for (const double q : {0.01, 0.5, 0.9, 0.95, 0.99, 1.0}) {
      const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(all.size())));
      const uint64_t exact = all[std::max<size_t>(rank, 1) - 1];
      const uint64_t told = estimate.QuantileNs(q).value();
      CHECK(told >= exact);
      CHECK(static_cast<double>(told) <= static_cast<double>(exact) * 1.125 + 1);
    }
  }
}

TEST_CASE("what was long ago fades") {
  LatencyEstimate estimate;
  for (int i = 0; i < 100'000; ++i) estimate.Add(1'000'000);
  for (uint32_t i = 0; i < 5 * LatencyEstimate::kMostSamples; ++i) estimate.Add(20'000);
  CHECK(estimate.QuantileNs(0.95).value() < 25'000);
}

TEST_CASE("the rare is not lost by being halved") {
  LatencyEstimate estimate;
  for (int i = 0; i < 50'000; ++i) estimate.Add(i % 25 == 0 ? 9'000'000 + i * 100 : 50'000);
  CHECK(estimate.QuantileNs(0.95).value() < 60'000);
  CHECK(estimate.QuantileNs(0.97).value() > 9'000'000);
}

TEST_CASE("durations beyond the scale are told as its ends") {
  LatencyEstimate fast;
  LatencyEstimate slow;
  for (uint32_t i = 0; i < LatencyEstimate::kLeastSamples; ++i) {
    fast.Add(0);
    slow.Add(~uint64_t{0});
  }
  CHECK(fast.QuantileNs(0.5) == 1024);
  CHECK(slow.QuantileNs(0.5) == uint64_t{1} << 36);
}

}  // namespace
}  // namespace latentd
