// A real lane is timed over the grid: its tables are monotone, and it has everything back.
#include "daemon/calibration/lane_survey.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "absl/time/clock.h"
#include "daemon/lane/lane_test_client.h"
#include "daemon/testing/fake_lane.h"

namespace latentd {
namespace {

const WaitOrEnd kNoWait = [](Pause, absl::Duration) { return false; };
const LaneSurveyOptions kQuick = {.share = 1, .longest_batch = absl::Milliseconds(2)};

LaneOptions Options() {
  LaneOptions options = TestOptions(/*pages=*/256);
  options.limits.publish_bytes_per_request = 8 * options.layout.page_bytes();
  return options;
}

TEST_CASE("a lane's tables are monotone, and it is left as it was") {
  LaneWorld world(Options());
  TestClient client(world);
  client.Fill(1, 100);
  world.Settle();
  const uint64_t pages_free = world.stats().pages_free.Get();
  const auto tables = SurveyLane(*world.lane, kQuick, kNoWait);
  REQUIRE(tables.status().ToString() == "OK");
  CHECK(tables->points > 20);
  for (const ComputeTable* table : {&tables->latency, &tables->throughput}) {
    CHECK(table->tokens().back() >= 1024);
    for (double rows = 1; rows < 10'000; rows *= 3) {
      for (double tokens = 16; tokens < 100'000; tokens *= 3) {
        CHECK(table->UsAt(rows, tokens) > 0);
        CHECK(table->UsAt(3 * rows, tokens) >= table->UsAt(rows, tokens));
        CHECK(table->UsAt(rows, 3 * tokens) >= table->UsAt(rows, tokens));
      }
    }
  }
  CHECK(world.stats().pages_free.Get() == pages_free);
  CHECK(world.stats().attend_batches.Get() == 0);
  CHECK(client.Attend({.chunks = {TestClient::Entry(1, 100)}}).status().ToString() == "OK");
}

TEST_CASE("a survey that is told to end does so at once, and the lane has its pages back") {
  LaneWorld world(Options());
  world.Settle();
  const uint64_t pages_free = world.stats().pages_free.Get();
  int waits = 0;
  const auto tables =
      SurveyLane(*world.lane, kQuick, [&waits](Pause, absl::Duration) { return ++waits == 5; });
  CHECK(tables.status().code() == absl::StatusCode::kCancelled);
  CHECK(waits == 5);
  CHECK(world.stats().pages_free.Get() == pages_free);
}

TEST_CASE("a survey rests for as long as its share of the lane's time says") {
  LaneWorld world(Options());
  absl::Duration rested;
  const absl::Time began = absl::Now();
  const auto tables =
      SurveyLane(*world.lane, {.share = 0.25, .longest_batch = absl::Microseconds(200)},
                 [&rested](Pause, absl::Duration rest) {
                   rested += rest;
                   return false;
                 });
  REQUIRE(tables.ok());
  const absl::Duration worked =
      absl::Nanoseconds(static_cast<int64_t>(world.stats().trial_ns.Get()));
  CHECK(rested >= 3 * worked);
  CHECK(rested <= 3 * (absl::Now() - began));
}

TEST_CASE("a lane that has requests is backed off from, whoever waits") {
  LaneWorld world(Options());
  TestClient client(world);
  client.Fill(1, 100);
  std::atomic<bool> stop = false;
  std::thread busy([&] {
    while (!stop) (void)client.Attend({.chunks = {TestClient::Entry(1, 100)}});
  });
  LaneSurveyOptions options = kQuick;
  options.patience = absl::Milliseconds(300);
  int back_offs = 0;
  const auto tables = SurveyLane(*world.lane, options, [&](Pause pause, absl::Duration time) {
    if (pause == Pause::kRest) return false;
    CHECK(time >= absl::Milliseconds(20));
    absl::SleepFor(time);
    return ++back_offs == 5;
  });
  stop = true;
  busy.join();
  CHECK(back_offs >= 1);
  const bool gave_up = absl::IsCancelled(tables.status()) ||
                       absl::IsDeadlineExceeded(tables.status()) ||
                       (tables.ok() && absl::IsDeadlineExceeded(tables->trouble));
  CHECK((gave_up || tables.ok()));
}

TEST_CASE("a lane whose cache has no page to spare says so") {
  LaneOptions options = TestOptions(/*pages=*/4);
  LaneWorld world(options);
  TestClient client(world);
  client.Fill(1, 3 * kPageTokens);
  const auto tables = SurveyLane(*world.lane, kQuick, kNoWait);
  CHECK(absl::IsResourceExhausted(tables.status()));
  CHECK(tables.status().message().find("to spare") != absl::string_view::npos);
}

TEST_CASE("a lane that cannot be timed is named by an error") {
  FakeLane lane(TestOptions());
  CHECK(SurveyLane(lane, kQuick, kNoWait).status().code() == absl::StatusCode::kUnimplemented);

  LaneWorld world(Options());
  REQUIRE(world.lane->Stop(absl::Now() + absl::Seconds(30)).ok());
  CHECK(SurveyLane(*world.lane, kQuick, kNoWait).status().code() == absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace latentd
