// A lane that times its own device: it says how long batches take, and leaves nothing behind.
#include <catch2/catch.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/time/clock.h"
#include "daemon/lane/batch_trial.h"
#include "daemon/lane/lane.h"
#include "daemon/lane/lane_test_client.h"

namespace latentd {
namespace {

// The answer to a trial, once it has come.
class Answer {
 public:
  Lane::TrialDone Take() {
    return [state = state_](absl::StatusOr<BatchTimes> times) {
      const std::lock_guard<std::mutex> lock(state->mutex);
      state->times = std::move(times);
    };
  }
  absl::StatusOr<BatchTimes> Get() const {
    std::optional<absl::StatusOr<BatchTimes>> times;
    const bool came = WaitFor([&] {
      const std::lock_guard<std::mutex> lock(state_->mutex);
      times = state_->times;
      return times.has_value();
    });
    if (!came) throw std::runtime_error("the trial has no end");
    return *std::move(times);
  }

 private:
  struct State {
    std::mutex mutex;
    std::optional<absl::StatusOr<BatchTimes>> times;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

absl::StatusOr<BatchTimes> Time(LaneWorld& world, const BatchTrial& trial) {
  Answer answer;
  world.lane->TimeBatches(trial, answer.Take());
  return answer.Get();
}

void EndTrials(LaneWorld& world) {
  std::atomic<bool> done = false;
  world.lane->EndTrials([&] { done = true; });
  REQUIRE(WaitFor([&] { return done.load(); }));
}

LaneOptions Options(RecordFormat format = RecordFormat::kBf16, int threads = 0) {
  LaneOptions options = TestOptions();
  options.limits.publish_bytes_per_request = 8 * options.layout.page_bytes();
  options.threads = threads;
  if (format == RecordFormat::kFp8) {
    options.layout.latent_width = kFp8ScaleWidth;
    options.layout.record_format = format;
    options.cache_bytes = 64 * options.layout.page_bytes();
  }
  return options;
}

TEST_CASE("a trial says how long each batch took, and leaves no pages, chunks or counts behind") {
  const RecordFormat format = GENERATE(RecordFormat::kBf16, RecordFormat::kFp8);
  LaneWorld world(Options(format, GENERATE(0, 2)));
  world.Settle();
  const uint64_t pages_free = world.stats().pages_free.Get();
  for (const bool keep_busy : {false, true}) {
    for (const uint32_t tokens : {1u, 64u, 1000u}) {
      const auto times = Time(world, {.query_tokens = 3,
                                      .heads = 16,
                                      .visible_tokens = tokens,
                                      .keep_busy = keep_busy,
                                      .batches = 7});
      REQUIRE(times.status().ToString() == "OK");
      CHECK_FALSE(times->interrupted);
      REQUIRE(times->us.size() == 7);
      for (const double us : times->us) CHECK(us > 0);
    }
  }
  CHECK(world.stats().pages_free.Get() < pages_free);
  EndTrials(world);
  CHECK(world.stats().pages_free.Get() == pages_free);
  CHECK(world.stats().chunks_open.Get() == 0);
  CHECK(world.stats().attend_batches.Get() == 0);
  CHECK(world.stats().attend_rows.Get() == 0);
  CHECK(world.stats().trial_ns.Get() > 0);
}

TEST_CASE("a trial over more tokens than the cache can spare is refused by name") {
  LaneWorld world(Options());
  const auto times = Time(world, {.visible_tokens = 40 * kPageTokens});
  CHECK(times.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(std::string(times.status().message()).find("40 pages") != std::string::npos);
  CHECK(Time(world, {.visible_tokens = 20 * kPageTokens}).ok());
  CHECK(Time(world, {.heads = 0}).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a lane runs one trial at a time") {
  LaneWorld world(Options());
  Answer first;
  Answer second;
  world.lane->TimeBatches({.batches = 100'000}, first.Take());
  world.lane->TimeBatches({}, second.Take());
  CHECK(second.Get().status().code() == absl::StatusCode::kAborted);
  REQUIRE(world.lane->Stop(absl::Now() + absl::Seconds(30)).ok());
  const auto cut = first.Get();
  CHECK((!cut.ok() || cut->interrupted));
  CHECK(Time(world, {}).status().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("what comes for others ends a trial and gets its pages") {
  LaneWorld world(Options());
  TestClient client(world);
  Answer answer;
  world.lane->TimeBatches({.visible_tokens = 20 * kPageTokens, .batches = 10'000'000},
                          answer.Take());
  REQUIRE(client.Until([&] { return world.stats().oldest_batch_start_ns.Get() != 0; }));
  for (uint32_t page = 0; page < 60; page += 6) {
    const RecordRange range{0, client.layout().layers, page * kPageTokens, 6 * kPageTokens};
    REQUIRE(client.Publish(1, range).status().ToString() == "OK");
  }
  const auto times = answer.Get();
  REQUIRE(times.ok());
  CHECK(times->interrupted);
  CHECK(times->us.size() < 10'000'000);
  CHECK(world.stats().evicted_chunks.Get() == 0);
  const TestReply reply = client.Attend({.chunks = {TestClient::Entry(1, 60 * kPageTokens)}});
  CHECK(reply.status().ToString() == "OK");
  CHECK(client.Until([&] { return world.Quiet(); }));
  world.Settle();
  CHECK(world.stats().pages_free.Get() == 4);
}

TEST_CASE("a lane that was asked something a moment ago times nothing") {
  LaneWorld world(Options());
  TestClient client(world);
  client.Fill(1, 10);
  const auto times = Time(world, {.batches = 3});
  REQUIRE(times.ok());
  CHECK(times->interrupted);
  CHECK(times->us.empty());
  absl::SleepFor(absl::Milliseconds(300));
  const auto later = Time(world, {.batches = 3});
  REQUIRE(later.ok());
  CHECK(later->us.size() == 3);
}

}  // namespace
}  // namespace latentd
