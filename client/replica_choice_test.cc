#include "client/replica_choice.h"

#include <array>
#include <limits>
#include <random>
#include <vector>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

constexpr uint64_t kUs = 1'000;
constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kNow = 3'600'000 * kMs;

LaneLoad Reported(uint64_t expected_ns, uint32_t in_flight = 0) {
  LaneLoad load;
  load.OnReport(expected_ns, kNow);
  for (uint32_t i = 0; i < in_flight; ++i) load.OnSent();
  return load;
}

size_t Choose(const std::vector<LaneLoad>& loads, uint64_t random = 0, uint64_t now_ns = kNow) {
  std::vector<const LaneLoad*> pointers;
  for (const LaneLoad& load : loads) pointers.push_back(&load);
  return ChooseReplica(pointers, now_ns, random);
}

TEST_CASE("without reports, and with one holder, it is the primary") {
  LaneLoad busy;
  for (int i = 0; i < 100; ++i) busy.OnSent();
  for (uint64_t random = 0; random < 10; ++random) {
    CHECK(Choose({busy, LaneLoad(), LaneLoad()}, random) == 0);
    CHECK(Choose({Reported(900 * kMs)}, random) == 0);
  }
  const std::array<const LaneLoad*, 2> unknown = {nullptr, nullptr};
  CHECK(ChooseReplica(unknown, kNow, 5) == 0);
}

TEST_CASE("ties, and what is nearly one, keep the primary") {
  for (uint64_t random = 0; random < 10; ++random) {
    CHECK(Choose({Reported(kMs), Reported(kMs), Reported(kMs)}, random) == 0);
    CHECK(Choose({Reported(kMs), Reported(950 * kUs)}, random) == 0);
    CHECK(Choose({Reported(5 * kUs), Reported(4 * kUs)}, random) == 0);
  }
}

TEST_CASE("a holder that reports less is asked") {
  CHECK(Choose({Reported(kMs), Reported(500 * kUs)}) == 1);
  CHECK(Choose({Reported(500 * kUs), Reported(kMs)}) == 0);
}

TEST_CASE("what is in flight there weighs") {
  CHECK(Choose({Reported(kMs, 1), Reported(kMs)}) == 1);
  CHECK(Choose({Reported(kMs, 1), Reported(kMs, 1)}) == 0);
  CHECK(Choose({Reported(kMs, 1), Reported(4 * kMs)}) == 0);
}

TEST_CASE("a holder that was never asked is tried once the primary is known to be busy") {
  const LaneLoad busy = Reported(kMs);
  const std::array<const LaneLoad*, 2> loads = {&busy, nullptr};
  CHECK(ChooseReplica(loads, kNow, 0) == 1);
  const LaneLoad idle = Reported(0);
  const std::array<const LaneLoad*, 2> quiet = {&idle, nullptr};
  CHECK(ChooseReplica(quiet, kNow, 0) == 0);
}

TEST_CASE("of the others the drawn one is compared: two choices") {
  const std::vector<LaneLoad> loads = {Reported(kMs), Reported(2 * kMs), Reported(10 * kUs)};
  CHECK(Choose(loads, 0) == 0);
  CHECK(Choose(loads, 1) == 2);
  CHECK(Choose(loads, 2) == 0);
}

TEST_CASE("an average fades, so that a busy holder is tried again") {
  const std::vector<LaneLoad> loads = {Reported(100 * kMs), Reported(kMs)};
  CHECK(Choose(loads) == 1);
  CHECK(Choose(loads, 0, kNow + 10'000 * kMs) == 0);
}

TEST_CASE("an average follows what is reported") {
  LaneLoad load = Reported(kMs);
  for (int i = 1; i <= 50; ++i) load.OnReport(10 * kMs, kNow + i * 10 * kUs);
  CHECK(load.AverageNs(kNow + kMs) > 9 * kMs);
  CHECK(load.AverageNs(kNow + kMs) <= 10 * kMs);
}

TEST_CASE("rows that wait count as long as those that were computed took") {
  CHECK(ExpectedNs({.queue_ns = 10, .compute_ns = 100}) == 110);
  CHECK(ExpectedNs({.queue_ns = 10, .compute_ns = 100, .batch_rows = 20, .lane_rows_queued = 40}) ==
        310);
  const uint64_t most = std::numeric_limits<uint64_t>::max();
  LaneLoad absurd;
  absurd.OnReport(ExpectedNs({most, most, 1, 0xffffffff}), kNow);
  for (int i = 0; i < 1000; ++i) absurd.OnSent();
  CHECK(absurd.CostNs(kNow) > kMs);
}

TEST_CASE("two holders that are equally fast share a load that one cannot bear") {
  // Each serves one request at a time in 1 ms; two arrive in each.
  std::mt19937_64 random(11);
  std::array<LaneLoad, 2> loads;
  std::array<std::vector<uint64_t>, 2> due;  // when each request in flight is answered
  std::array<uint64_t, 2> asked = {0, 0};
  for (uint64_t at = kNow; at < kNow + 500 * kMs; at += 500 * kUs) {
    for (size_t i = 0; i < 2; ++i) {
      while (!due[i].empty() && due[i].front() <= at) {
        due[i].erase(due[i].begin());
        loads[i].OnSettled();
        loads[i].OnReport(kMs * (due[i].size() + 1), at);
      }
    }
    const std::array<const LaneLoad*, 2> both = {&loads[0], &loads[1]};
    const size_t to = ChooseReplica(both, at, random());
    loads[to].OnSent();
    due[to].push_back(std::max(at, due[to].empty() ? 0 : due[to].back()) + kMs);
    ++asked[to];
  }
  CHECK(asked[0] > 400);
  CHECK(asked[1] > 400);
  CHECK(due[0].size() + due[1].size() < 20);
}

}  // namespace
}  // namespace latentd
