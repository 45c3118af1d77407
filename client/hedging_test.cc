#include "client/hedging.h"

#include <random>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

LatencyEstimate Of(uint64_t ns) {
  LatencyEstimate estimate;
  for (uint32_t i = 0; i < LatencyEstimate::kLeastSamples; ++i) estimate.Add(ns);
  return estimate;
}

TEST_CASE("by default nothing is hedged") {
  CHECK_FALSE(HedgeDelayNs({}, Of(5'000'000)).has_value());
}

TEST_CASE("a hedge waits for the quantile of what the holder takes, and for the floor") {
  const HedgeOptions options = {.quantile = 0.95, .floor = absl::Milliseconds(2)};
  CHECK_FALSE(HedgeDelayNs(options, {}).has_value());
  CHECK(HedgeDelayNs(options, Of(100'000)) == 2'000'000);
  const uint64_t delay_ns = HedgeDelayNs(options, Of(5'000'000)).value();
  CHECK(delay_ns >= 5'000'000);
  CHECK(delay_ns <= 5'000'000 * 9 / 8);
}

TEST_CASE("hedges never exceed their share") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    HedgeBudget budget(0.05);
    uint64_t requests = 0;
    uint64_t hedges = 0;
    for (int i = 0; i < 5000; ++i) {
      if (random() % 3 != 0) {
        budget.OnRequest();
        ++requests;
      } else if (budget.Take()) {
        ++hedges;
      }
      REQUIRE(static_cast<double>(hedges) <= 0.05 * static_cast<double>(requests) + 1e-6);
    }
    CHECK(hedges > requests / 25);
  }
}

TEST_CASE("what is saved up is bounded") {
  HedgeBudget budget(0.5);
  for (int i = 0; i < 1000; ++i) budget.OnRequest();
  int hedges = 0;
  while (budget.Take()) ++hedges;
  CHECK(hedges == 10);
}

TEST_CASE("no share, no hedge; more than all is all") {
  HedgeBudget none(0);
  HedgeBudget all(7);
  for (int i = 0; i < 100; ++i) {
    none.OnRequest();
    CHECK_FALSE(none.Take());
    all.OnRequest();
    CHECK(all.Take());
    CHECK_FALSE(all.Take());
  }
}

}  // namespace
}  // namespace latentd
