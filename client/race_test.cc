#include "client/race.h"

#include <random>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("the first side that is answered wins, and the other is not wanted any more") {
  for (const Race::Side side : {Race::kFirst, Race::kSecond}) {
    Race race;
    CHECK(race.Runs(Race::kFirst));
    CHECK(race.Runs(Race::kSecond));
    CHECK(race.Answered(side));
    CHECK_FALSE(race.Runs(Race::kFirst));
    CHECK_FALSE(race.Runs(Race::kSecond));
  }
}

TEST_CASE("a side that was cut has to be answered whole") {
  Race race;
  race.Split(Race::kSecond, 3);
  CHECK_FALSE(race.Answered(Race::kSecond));
  CHECK_FALSE(race.Answered(Race::kSecond));
  CHECK(race.Runs(Race::kFirst));
  CHECK(race.Answered(Race::kSecond));
}

TEST_CASE("a side that fails leaves it to the other, and the work has failed when both have") {
  Race race;
  race.Split(Race::kFirst, 2);
  CHECK_FALSE(race.Answered(Race::kFirst));
  CHECK(race.Failed(Race::kFirst));
  CHECK_FALSE(race.Runs(Race::kFirst));
  CHECK(race.Runs(Race::kSecond));
  CHECK_FALSE(race.Failed(Race::kSecond));
}

TEST_CASE("whatever the order, at most one side wins, and only with every part") {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    Race race;
    int left[2] = {1, 1};
    bool failed[2] = {false, false};
    int winners = 0;
    while (race.Runs(Race::kFirst) || race.Runs(Race::kSecond)) {
      const auto side = static_cast<Race::Side>(random() % 2);
      if (!race.Runs(side)) continue;
      switch (random() % 4) {
        case 0: {
          const auto parts = static_cast<uint32_t>(1 + random() % 3);
          race.Split(side, parts);
          left[side] += static_cast<int>(parts) - 1;
          break;
        }
        case 1:
          failed[side] = true;
          CHECK(race.Failed(side) == !failed[Race::Other(side)]);
          break;
        default:
          --left[side];
          if (race.Answered(side)) {
            ++winners;
            CHECK(left[side] == 0);
          }
      }
    }
    CHECK(winners == (failed[0] && failed[1] ? 0 : 1));
  }
}

}  // namespace
}  // namespace latentd
