#include "daemon/engine/batcher.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace latentd {
namespace {

const int kChunkA = 0, kChunkB = 0;

std::vector<uint64_t> Take(Batcher& batcher) {
  std::vector<uint64_t> jobs;
  batcher.TakeBatch(jobs);
  return jobs;
}

TEST_CASE("sessions take turns, and each is served in order") {
  Batcher batcher({.rows = 4});
  for (uint64_t job = 1; job <= 4; ++job) batcher.Add({.job = job, .session = 1, .rows = 2});
  batcher.Add({.job = 10, .session = 2, .rows = 2});
  CHECK(Take(batcher) == std::vector<uint64_t>{1, 10});
  CHECK(Take(batcher) == std::vector<uint64_t>{2, 3});
  CHECK(batcher.rows() == 2);
  CHECK(Take(batcher) == std::vector<uint64_t>{4});
  CHECK(Take(batcher).empty());
  batcher.Add({.job = 11, .session = 2, .rows = 2});
  CHECK(Take(batcher) == std::vector<uint64_t>{11});
}

TEST_CASE("requests for the same chunk and layer ride along, next to each other") {
  Batcher batcher({.rows = 100});
  batcher.Add({.job = 1, .session = 1, .chunk = &kChunkA, .layer = 0, .rows = 1});
  batcher.Add({.job = 2, .session = 2, .chunk = &kChunkB, .layer = 0, .rows = 1});
  batcher.Add({.job = 3, .session = 3, .chunk = &kChunkA, .layer = 0, .rows = 1});
  batcher.Add({.job = 4, .session = 3, .chunk = &kChunkA, .layer = 1, .rows = 1});
  CHECK(Take(batcher) == std::vector<uint64_t>{1, 3, 2, 4});
}

TEST_CASE("a request of more rows than a batch is a batch of its own, and is not starved") {
  Batcher batcher({.rows = 10});
  batcher.Add({.job = 1, .session = 1, .rows = 5});
  batcher.Add({.job = 2, .session = 2, .rows = 50});
  batcher.Add({.job = 3, .session = 3, .rows = 5});
  CHECK(Take(batcher) == std::vector<uint64_t>{1});
  CHECK(Take(batcher) == std::vector<uint64_t>{2});
  CHECK(Take(batcher) == std::vector<uint64_t>{3});
}

TEST_CASE("what has passed its deadline is taken out, wherever it waits") {
  Batcher batcher({});
  const absl::Time now = absl::UnixEpoch();
  batcher.Add({.job = 1, .session = 1, .rows = 1, .deadline = now + absl::Seconds(2)});
  batcher.Add({.job = 2, .session = 1, .rows = 1, .deadline = now + absl::Seconds(1)});
  CHECK(batcher.next_deadline() == now + absl::Seconds(1));
  std::vector<uint64_t> expired;
  batcher.TakeExpired(now, expired);
  CHECK(expired.empty());
  batcher.TakeExpired(now + absl::Seconds(1), expired);
  CHECK(expired == std::vector<uint64_t>{2});
  CHECK(Take(batcher) == std::vector<uint64_t>{1});
  CHECK(batcher.next_deadline() == absl::InfiniteFuture());
}

TEST_CASE("a batch has no more work than its bound, but for one request's") {
  Batcher batcher({.work = 100});
  batcher.Add({.job = 1, .session = 1, .chunk = &kChunkA, .rows = 1, .work = 60});
  batcher.Add({.job = 2, .session = 2, .chunk = &kChunkA, .rows = 1, .work = 50});
  batcher.Add({.job = 3, .session = 3, .chunk = &kChunkB, .rows = 1, .work = 500});
  batcher.Add({.job = 4, .session = 4, .chunk = &kChunkB, .rows = 1, .work = 1});
  CHECK(Take(batcher) == std::vector<uint64_t>{1});
  CHECK(Take(batcher) == std::vector<uint64_t>{2});
  CHECK(Take(batcher) == std::vector<uint64_t>{3});
  CHECK(Take(batcher) == std::vector<uint64_t>{4});
}

TEST_CASE("a cancelled request leaves the queue") {
  Batcher batcher({});
  batcher.Add({.job = 1, .session = 1, .chunk = &kChunkA, .rows = 3});
  batcher.Add({.job = 2, .session = 2, .chunk = &kChunkA, .rows = 3});
  CHECK(batcher.Remove(1));
  CHECK_FALSE(batcher.Remove(1));
  CHECK(batcher.rows() == 3);
  CHECK(Take(batcher) == std::vector<uint64_t>{2});
}

TEST_CASE("whatever comes, every request is taken once, in bounds, and each session in order") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  const std::vector<const void*> chunks = {nullptr, &kChunkA, &kChunkB};
  for (int round = 0; round < 100; ++round) {
    const BatchLimits limits{.rows = 1 + pick(40), .requests = 1 + pick(10)};
    Batcher batcher(limits);
    std::map<uint64_t, BatchItem> waiting;
    uint64_t next = 1, most_turns_waited = 0;
    std::map<uint64_t, uint64_t> batches_waited;
    for (int step = 0; step < 300; ++step) {
      if (pick(3) > 0) {
        const BatchItem item{.job = next++,
                             .session = 1 + pick(4),
                             .chunk = chunks[pick(3)],
                             .layer = pick(2),
                             .rows = 1 + pick(20),
                             .deadline = absl::UnixEpoch() + absl::Seconds(step + pick(200))};
        batcher.Add(item);
        waiting.emplace(item.job, item);
      } else if (pick(4) == 0) {
        std::vector<uint64_t> expired;
        const absl::Time now = absl::UnixEpoch() + absl::Seconds(step);
        batcher.TakeExpired(now, expired);
        for (const uint64_t job : expired) {
          REQUIRE(waiting.at(job).deadline <= now);
          waiting.erase(job);
        }
      } else {
        const auto jobs = Take(batcher);
        REQUIRE(jobs.empty() == waiting.empty());
        uint64_t rows = 0;
        std::set<uint64_t> sessions;
        for (const uint64_t job : jobs) {
          const BatchItem item = waiting.at(job);
          rows += item.rows;
          sessions.insert(item.session);
          waiting.erase(job);
        }
        REQUIRE((jobs.size() <= 1 || rows <= limits.rows));
        REQUIRE(jobs.size() <= limits.requests);
        // No session with work goes without a turn for more batches than there are sessions.
        for (uint64_t s = 1; s <= 4; ++s) {
          const bool waits = std::any_of(waiting.begin(), waiting.end(),
                                         [&](const auto& w) { return w.second.session == s; });
          batches_waited[s] = waits && !sessions.contains(s) ? batches_waited[s] + 1 : 0;
          most_turns_waited = std::max(most_turns_waited, batches_waited[s]);
        }
      }
      REQUIRE(batcher.size() == waiting.size());
    }
    REQUIRE(most_turns_waited <= 4);
    while (!batcher.empty()) {
      for (const uint64_t job : Take(batcher)) REQUIRE(waiting.erase(job) == 1);
    }
    REQUIRE(waiting.empty());
    REQUIRE(batcher.rows() == 0);
  }
}

}  // namespace
}  // namespace latentd
