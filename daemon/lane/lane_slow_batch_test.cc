// Batches that would take forever: they end when nobody waits for them any more, and others have
// their turn.
#include <catch2/catch.hpp>

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "daemon/lane/lane.h"
#include "daemon/lane/lane_test_client.h"

namespace latentd {
namespace {

using Query = TestClient::Query;

constexpr uint32_t kEndlessTokens = 8;

// Never finishes a problem of kEndlessTokens query tokens unless its batch is cancelled.
class EndlessBackend : public Backend {
 public:
  explicit EndlessBackend(std::unique_ptr<Backend> real) : real_(std::move(real)) {}
  std::string Describe() const override { return "endless"; }
  void Submit(uint64_t id, std::span<const Problem> problems) override {
    for (const Problem& problem : problems) {
      if (problem.tokens != kEndlessTokens) continue;
      endless_.push_back({.batch_id = id});
      endless_.back().statuses.assign(problems.size(), absl::CancelledError());
      return;
    }
    real_->Submit(id, problems);
  }
  void Cancel(uint64_t id) override {
    for (size_t i = 0; i < endless_.size(); ++i) {
      if (endless_[i].batch_id != id) continue;
      ended_.push_back(std::move(endless_[i]));
      endless_.erase(endless_.begin() + static_cast<int64_t>(i));
      return;
    }
  }
  bool Poll(std::vector<BatchResult>& done) override {
    const bool any = real_->Poll(done) || !ended_.empty();
    for (BatchResult& result : ended_) done.push_back(std::move(result));
    ended_.clear();
    return any;
  }
  int in_flight() const override {
    return real_->in_flight() + static_cast<int>(endless_.size() + ended_.size());
  }
  int max_in_flight() const override { return real_->max_in_flight(); }

 private:
  std::unique_ptr<Backend> real_;
  std::vector<BatchResult> endless_;
  std::vector<BatchResult> ended_;
};

LaneDevice EndlessDevice(const LaneOptions& options) {
  LaneDevice device = ValueOrDie(MakeLaneDevice(options));
  device.make_backend = [make = device.make_backend](
                            const CacheView& cache,
                            uint32_t pages) -> absl::StatusOr<std::unique_ptr<Backend>> {
    return std::make_unique<EndlessBackend>(ValueOrDie(make(cache, pages)));
  };
  return device;
}

const Query kEndless = {.tokens = kEndlessTokens, .chunks = {TestClient::Entry(1, 10)}};
const Query kQuick = {.chunks = {TestClient::Entry(1, 10)}};

struct SlowWorld {
  LaneOptions options = Options();
  LaneWorld world{options, EndlessDevice(options)};
  TestClient keeper{world};

  SlowWorld() { keeper.Fill(1, 10); }
  static LaneOptions Options() {
    LaneOptions options = TestOptions();
    options.limits.publish_bytes_per_request = 8 * options.layout.page_bytes();
    return options;
  }
  bool Computes() { return world.stats().oldest_batch_start_ns.Get() != 0; }
};

TEST_CASE("a request past its deadline ends unanswered and lets others in") {
  SlowWorld slow;
  TestClient client(slow.world);
  const uint64_t endless = client.SendAttend(
      kEndless, [](wire::RequestHeader& header) { header.deadline_us = 200'000; });
  REQUIRE(client.Until([&] { return slow.Computes(); }));
  CHECK(slow.keeper.Attend(kQuick).status().ok());
  CHECK(absl::IsDeadlineExceeded(client.Take(endless).status()));
  CHECK(client.Until([&] { return slow.world.Quiet() && !slow.Computes(); }));
  CHECK(slow.world.stats().deadline_dropped.Get() == 1);
  CHECK(slow.world.stats().chunks_pinned.Get() == 0);
}

TEST_CASE("what a session computes ends with it") {
  SlowWorld slow;
  TestClient client(slow.world);
  client.SendAttend(kEndless);
  REQUIRE(client.Until([&] { return slow.Computes(); }));
  slow.world.lane->RemoveSession(client.token(), "closed by the test");
  CHECK(slow.keeper.Attend(kQuick).status().ok());
  CHECK(slow.keeper.Until([&] { return slow.world.Quiet() && !slow.Computes(); }));
  CHECK(slow.world.stats().chunks_pinned.Get() == 0);
}

TEST_CASE("what a client computes ends when it dies") {
  SlowWorld slow;
  auto client = std::make_unique<TestClient>(slow.world);
  client->SendAttend(kEndless);
  REQUIRE(client->Until([&] { return slow.Computes(); }));
  client->Die();
  CHECK(slow.keeper.Until([&] { return slow.world.lost == 1; }));
  CHECK(slow.keeper.Attend(kQuick).status().ok());
  CHECK(slow.keeper.Until([&] { return slow.world.Quiet(); }));
}

TEST_CASE("a batch that the lane times ends when a request comes") {
  SlowWorld slow;
  absl::SleepFor(absl::Milliseconds(300));  // so that the lane is idle
  std::atomic<int> ended = 0;
  std::atomic<bool> interrupted = false;
  slow.world.lane->TimeBatches(
      {.query_tokens = kEndlessTokens}, [&](absl::StatusOr<BatchTimes> times) {
        interrupted = times.ok() && times->interrupted && times->us.empty();
        ++ended;
      });
  REQUIRE(slow.keeper.Until([&] { return slow.Computes(); }));
  CHECK(slow.keeper.Attend(kQuick).status().ToString() == "OK");
  CHECK(slow.keeper.Until([&] { return ended == 1; }));
  CHECK(interrupted);
}

}  // namespace
}  // namespace latentd
