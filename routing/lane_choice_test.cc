#include "routing/lane_choice.h"

#include <cmath>
#include <vector>

#include <catch2/catch.hpp>

namespace latentd {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

std::vector<uint32_t> Choices(const std::vector<uint64_t>& weights) {
  std::vector<uint32_t> lanes;
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    lanes.push_back(LaneOfSlot(static_cast<Slot>(slot), weights));
  }
  return lanes;
}

std::vector<double> Shares(const std::vector<uint64_t>& weights) {
  std::vector<double> shares(weights.size(), 0);
  for (const uint32_t lane : Choices(weights)) shares.at(lane) += 1.0 / kSlotCount;
  return shares;
}

TEST_CASE("one lane holds every slot") {
  for (const uint32_t lane : Choices({kGiB})) REQUIRE(lane == 0);
}

TEST_CASE("lanes share slots in proportion to their cache") {
  const std::vector<std::vector<uint64_t>> nodes = {
      {kGiB, kGiB},
      {kGiB, 3 * kGiB},
      {60 * kGiB, 60 * kGiB, 60 * kGiB, 60 * kGiB, 20 * kGiB},
      {1, 2, 3}};
  for (const auto& weights : nodes) {
    double total = 0;
    for (const uint64_t weight : weights) total += static_cast<double>(weight);
    const std::vector<double> shares = Shares(weights);
    for (size_t lane = 0; lane < weights.size(); ++lane) {
      // Five standard deviations of a binomial share.
      const double expected = static_cast<double>(weights[lane]) / total;
      CHECK(std::abs(shares[lane] - expected) <
            5 * std::sqrt(expected * (1 - expected) / kSlotCount));
    }
  }
}

TEST_CASE("a lane that grows only takes slots") {
  const std::vector<uint32_t> before = Choices({kGiB, kGiB, kGiB});
  const std::vector<uint32_t> after = Choices({kGiB, kGiB, 2 * kGiB});
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    if (before[slot] != after[slot]) REQUIRE(after[slot] == 2);
  }
}

TEST_CASE("a lane that is added only takes slots") {
  const std::vector<uint32_t> before = Choices({kGiB, 2 * kGiB});
  const std::vector<uint32_t> after = Choices({kGiB, 2 * kGiB, kGiB});
  for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
    if (before[slot] != after[slot]) REQUIRE(after[slot] == 2);
  }
}

TEST_CASE("a lane without cache is given no slot") {
  for (const uint32_t lane : Choices({0, kGiB, 0})) REQUIRE(lane == 1);
  for (const uint32_t lane : Choices({0, 0})) REQUIRE(lane == 0);
}

// Stored bytes depend on it: a change strands every chunk on the wrong lane.
TEST_CASE("the choice never changes between builds") {
  const std::vector<uint64_t> weights = {kGiB, 2 * kGiB, 3 * kGiB, kGiB};
  uint64_t digest = 0;
  for (const uint32_t lane : Choices(weights)) digest = digest * 1099511628211u + lane + 1;
  CHECK(digest == 0xcad449196a5fb9eb);
}

}  // namespace
}  // namespace latentd
