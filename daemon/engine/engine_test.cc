#include "daemon/engine/engine.h"

#include <catch2/catch.hpp>

#include <map>
#include <utility>
#include <vector>

namespace latentd {
namespace {

// Holds batches until the test lets them go.
class FakeBackend : public Backend {
 public:
  struct Log {
    std::vector<std::pair<uint64_t, size_t>> submitted;  // id, problems
    std::vector<BatchResult> finished;
    std::vector<uint64_t> cancelled;  // batch ids
  };
  explicit FakeBackend(Log* log) : log_(log) {}
  std::string Describe() const override { return "fake"; }
  void Submit(uint64_t id, std::span<const Problem> problems) override {
    log_->submitted.emplace_back(id, problems.size());
    ++in_flight_;
  }
  void Cancel(uint64_t id) override { log_->cancelled.push_back(id); }
  bool Poll(std::vector<BatchResult>& done) override {
    const bool any = !log_->finished.empty();
    for (BatchResult& result : log_->finished) {
      done.push_back(std::move(result));
      --in_flight_;
    }
    log_->finished.clear();
    return any;
  }
  int in_flight() const override { return in_flight_; }
  int max_in_flight() const override { return 4; }

 private:
  Log* log_;
  int in_flight_ = 0;
};

struct World {
  FakeBackend::Log log;
  Engine engine{std::make_unique<FakeBackend>(&log), {.max_in_flight = 1}};
  absl::Time now = absl::UnixEpoch();

  void Add(uint64_t job, absl::Duration deadline = absl::Seconds(10)) {
    engine.Add({.job = job,
                .session = job,
                .deadline = now + deadline,
                .problem = {.tokens = 1, .heads = 2}});
  }
  std::vector<EngineDone> Turn() {
    std::vector<EngineDone> done;
    engine.Turn(now, done);
    return done;
  }
};

TEST_CASE("what comes while a batch is computed joins the next one") {
  World world;
  world.Add(1);
  CHECK(world.Turn().empty());
  world.Add(2);
  world.Add(3);
  CHECK(world.engine.rows_queued() == 4);
  CHECK(world.Turn().empty());
  REQUIRE(world.log.submitted.size() == 1);

  world.log.finished.push_back({.batch_id = 1, .statuses = {absl::OkStatus()}, .compute_ns = 7});
  const auto done = world.Turn();
  REQUIRE(done.size() == 1);
  CHECK(done[0].job == 1);
  CHECK(done[0].status.ok());
  CHECK(done[0].compute_ns == 7);
  CHECK(done[0].batch_rows == 2);
  CHECK(world.Turn().empty());
  REQUIRE(world.log.submitted.size() == 2);
  CHECK(world.log.submitted[1] == std::pair<uint64_t, size_t>{2, 2});
  CHECK_FALSE(world.engine.idle());
}

TEST_CASE("a request whose deadline passes in the queue is never computed") {
  World world;
  world.Add(1);
  world.Turn();
  world.Add(2, absl::Seconds(1));
  world.now += absl::Seconds(2);
  const auto done = world.Turn();
  REQUIRE(done.size() == 1);
  CHECK(done[0].job == 2);
  CHECK(done[0].status.code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(done[0].started == absl::InfinitePast());
  CHECK(world.engine.rows_queued() == 0);
}

TEST_CASE("one bad problem harms only itself") {
  World world;
  world.Add(1);
  world.Add(2);
  world.Turn();
  world.log.finished.push_back(
      {.batch_id = 1, .statuses = {absl::InvalidArgumentError("row 0"), absl::OkStatus()}});
  const auto done = world.Turn();
  REQUIRE(done.size() == 2);
  CHECK(done[0].status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(done[1].status.ok());
  CHECK(world.engine.idle());
}

TEST_CASE("a queued request can be cancelled, one in the backend is handed back") {
  World world;
  world.Add(1);
  world.Turn();
  world.Add(2);
  CHECK(world.engine.Cancel(2));
  CHECK_FALSE(world.engine.Cancel(2));
  CHECK_FALSE(world.engine.Cancel(1));
  world.log.finished.push_back({.batch_id = 1, .statuses = {absl::OkStatus()}});
  CHECK(world.Turn().size() == 1);
  CHECK(world.engine.idle());
}

TEST_CASE("a batch is abandoned when the last of its deadlines has passed, and makes room") {
  World world;
  world.Add(1, absl::Seconds(1));
  world.Add(2, absl::Seconds(2));
  world.Turn();
  CHECK(world.engine.oldest_batch() == absl::UnixEpoch());
  world.Add(3);
  world.now += absl::Seconds(1);
  world.Turn();
  CHECK(world.log.cancelled.empty());
  world.now += absl::Seconds(1);
  world.Turn();
  world.Turn();
  CHECK(world.log.cancelled == std::vector<uint64_t>{1});
  world.log.finished.push_back(
      {.batch_id = 1, .statuses = {absl::CancelledError(), absl::CancelledError()}});
  const auto done = world.Turn();
  REQUIRE(done.size() == 2);
  CHECK(absl::IsDeadlineExceeded(done[0].status));
  CHECK(absl::IsDeadlineExceeded(done[1].status));
  world.Turn();
  CHECK(world.log.submitted.size() == 2);
  CHECK(world.engine.oldest_batch() == world.now);
}

TEST_CASE("a batch is abandoned when those that still wait for it are cancelled") {
  World world;
  for (const uint64_t job : {1, 2, 3}) world.Add(job, absl::Seconds(job));
  world.Turn();
  CHECK_FALSE(world.engine.Cancel(3));
  CHECK_FALSE(world.engine.Cancel(2));
  world.Turn();
  CHECK(world.log.cancelled.empty());
  world.now += absl::Seconds(1);
  world.Turn();
  CHECK(world.log.cancelled == std::vector<uint64_t>{1});
  world.log.finished.push_back({.batch_id = 1, .statuses = {3, absl::CancelledError()}});
  const auto done = world.Turn();
  REQUIRE(done.size() == 3);
  CHECK(absl::IsDeadlineExceeded(done[0].status));
  CHECK(absl::IsCancelled(done[1].status));
  CHECK(world.engine.idle());
  CHECK(world.engine.oldest_batch() == absl::InfiniteFuture());
}

TEST_CASE("an answer that comes after its deadline is none, and its batch mates have theirs") {
  World world;
  world.Add(1, absl::Seconds(1));
  world.Add(2, absl::Seconds(5));
  world.Turn();
  world.now += absl::Seconds(2);
  world.log.finished.push_back({.batch_id = 1, .statuses = {absl::OkStatus(), absl::OkStatus()}});
  const auto done = world.Turn();
  REQUIRE(done.size() == 2);
  CHECK(absl::IsDeadlineExceeded(done[0].status));
  CHECK(done[1].status.ok());
  CHECK(world.log.cancelled.empty());
}

TEST_CASE("a device that failed is told of, however late") {
  World world;
  world.Add(1, absl::Seconds(1));
  world.Turn();
  world.now += absl::Seconds(2);
  world.log.finished.push_back({.batch_id = 1, .statuses = {absl::InternalError("gone")}});
  const auto done = world.Turn();
  REQUIRE(done.size() == 1);
  CHECK(absl::IsInternal(done[0].status));
}

}  // namespace
}  // namespace latentd
