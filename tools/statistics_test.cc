#include "tools/statistics.h"

#include <cmath>
#include <limits>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_CASE("percentiles are values that were measured") {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Percentiles p = PercentilesOf(values);
  CHECK(p.p50 == 50);
  CHECK(p.p90 == 90);
  CHECK(p.p99 == 99);
  CHECK(p.max == 100);
  CHECK(PercentilesOf({7}).p50 == 7);
  CHECK(PercentilesOf({}).p99 == 0);
}

TEST_CASE("a row's error is relative to what was expected") {
  const std::vector<float> expected = {3, 4};
  const std::vector<float> got = {3, 4.005f};
  const RowError error = CompareRow(got, 1.5f, expected, 1.25f);
  CHECK(error.out_relative_l2 == Approx(0.001).epsilon(1e-3));
  CHECK(error.lse == Approx(0.25));
}

TEST_CASE("an empty row compares with an empty row") {
  const std::vector<float> zeros = {0, 0};
  WorstError worst;
  worst.Add(CompareRow(zeros, -kInfinity, zeros, -kInfinity));
  CHECK(worst.wrong == 0);
  worst.Add(CompareRow(zeros, 0, zeros, -kInfinity));
  CHECK(worst.wrong == 1);
}

TEST_CASE("a NaN is wrong and stays the worst") {
  const std::vector<float> expected = {1, 1};
  const std::vector<float> got = {1, std::nanf("")};
  WorstError worst;
  worst.Add(CompareRow(got, 0, expected, 0));
  worst.Add(CompareRow(expected, 0, expected, 0));
  CHECK(worst.rows == 2);
  CHECK(worst.wrong == 1);
  CHECK(std::isnan(worst.out_relative_l2));
}

TEST_CASE("bounds are inclusive and either one decides") {
  WorstError worst;
  worst.Add(RowError{kOutBound, kLseBound});
  CHECK(worst.wrong == 0);
  worst.Add(RowError{kOutBound * 1.01, 0});
  worst.Add(RowError{0, kLseBound * 1.01});
  CHECK(worst.wrong == 2);
}

}  // namespace
}  // namespace latentd
