// What every backend promises, as test cases.
#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/testing/backend_checks.h"

namespace latentd {
namespace {

TEST_CASE("random batches agree with fp64, alone or together, in every configuration") {
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    CheckRandomBatch({.format = RecordFormat::kBf16}, seed);
    CheckRandomBatch({.format = RecordFormat::kFp8}, seed);
    CheckRandomBatch({.format = RecordFormat::kFp8, .round_scales = false}, seed + 10);
  }
}

TEST_CASE("random batches agree with fp64 at any widths") {
  uint64_t seed = 100;
  for (const Geometry& geometry : {kTinyGeometry, Geometry{1, 0}, Geometry{5, 2}, Geometry{32, 0},
                                   Geometry{40, 6}, Geometry{96, 32}, Geometry{544, 64}}) {
    for (int i = 0; i < 3; ++i) CheckRandomBatch({.geometry = geometry, .max_heads = 40}, ++seed);
  }
  for (const Geometry& geometry : {Geometry{128, 0}, Geometry{128, 6}, Geometry{256, 32}}) {
    for (int i = 0; i < 3; ++i) {
      CheckRandomBatch({.geometry = geometry, .format = RecordFormat::kFp8, .max_heads = 40},
                       ++seed);
    }
  }
}

TEST_CASE("all head counts from one to 128 are computed") {
  TestStore store(kTinyGeometry, RecordFormat::kBf16, 1, 8, 5);
  const Segment all{store.page_ids(store.AddChunk(130)), 130, 0};
  const RunningBackend backend = BackendOver(store);
  for (uint32_t heads = 1; heads <= kMaxHeads; ++heads) {
    TestProblem problem = OneGroup(store, heads, 1, false, {all}, heads);
    REQUIRE(RunOne(*backend, problem).ok());
    RequireClose(store, problem);
  }
}

TEST_CASE("a row that sees nothing answers zero and minus infinity") {
  TestStore store(kUsualGeometry, RecordFormat::kBf16, 1, 4, 5);
  const uint32_t chunk = store.AddChunk(3);
  const RunningBackend backend = BackendOver(store);
  // No segments; only empty ones; a causal group whose first tokens see nothing yet.
  for (const auto& segments : {std::vector<Segment>{},
                               {{nullptr, 0, 0}, {nullptr, 0, 0}},
                               {{store.page_ids(chunk), 2, 0}}}) {
    TestProblem problem = OneGroup(store, 2, 5, true, segments);
    REQUIRE(RunOne(*backend, problem).ok());
    REQUIRE(problem.lse[0] == -std::numeric_limits<float>::infinity());
    RequireClose(store, problem);
  }
}

TEST_CASE("a problem without tokens and a batch without problems complete") {
  TestStore store(kTinyGeometry, RecordFormat::kBf16, 1, 1, 5);
  for (const auto& over : Tested().configurations) {
    const RunningBackend backend = over(store);
    std::vector<TestProblem> none;
    REQUIRE(Run(*backend, none).statuses.empty());
    TestProblem empty;
    REQUIRE(RunOne(*backend, empty).ok());
  }
}

TEST_CASE("each token of a causal group sees one more than the one before") {
  TestStore store(kTinyGeometry, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t first = store.AddChunk(70);
  const uint32_t last = store.AddChunk(5);
  const RunningBackend backend = BackendOver(store);
  TestProblem causal =
      OneGroup(store, 3, 9, true, {{store.page_ids(first), 70, 5}, {store.page_ids(last), 5, 0}});
  REQUIRE(RunOne(*backend, causal).ok());
  RequireClose(store, causal);
  // Query token 2 of 9 sees 75 - 6 = 69 tokens, all of them in the first chunk.
  TestProblem single = OneGroup(store, 3, 1, false, {{store.page_ids(first), 69, 0}});
  std::copy_n(causal.rows.begin() + 2 * 3 * kTinyGeometry.row_width(), single.rows.size(),
              single.rows.begin());
  REQUIRE(RunOne(*backend, single).ok());
  for (size_t head = 0; head < 3; ++head) {
    const float among_others = causal.lse[2 * 3 + head];
    if (Tested().same_bits_in_any_batch) {
      REQUIRE(single.lse[head] == among_others);
    } else {
      REQUIRE(single.lse[head] == Approx(among_others).margin(Tested().tolerance.lse));
    }
  }
}

TEST_CASE("negative, zero and large scales") {
  TestStore store(kUsualGeometry, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t chunk = store.AddChunk(700);
  const RunningBackend backend = BackendOver(store);
  for (float scale : {-0.1f, 0.0f, 1e-6f, 3.0f}) {
    CAPTURE(scale);
    TestProblem problem =
        OneGroup(store, 16, 2, true, {{store.page_ids(chunk), 700, 0}}, 1, OutFormat::kFp32, scale);
    REQUIRE(RunOne(*backend, problem).ok());
    RequireClose(store, problem);
  }
}

TEST_CASE("a row whose logits leave fp32 is named and harms no other problem") {
  TestStore store(kUsualGeometry, RecordFormat::kBf16, 1, 4, 5);
  const Segment all{store.page_ids(store.AddChunk(100)), 100, 0};
  const RunningBackend backend = BackendOver(store);
  std::vector<TestProblem> problems{OneGroup(store, 3, 2, false, {all}),
                                    OneGroup(store, 3, 2, false, {all}, 2),
                                    OneGroup(store, 3, 2, false, {all}, 3)};
  std::vector<TestProblem> clean = problems;
  // Token 1, head 2 of the second problem.
  for (uint32_t i = 0; i < kUsualGeometry.row_width(); ++i) {
    problems[1].rows[5 * kUsualGeometry.row_width() + i] = FloatToBf16(i % 2 == 0 ? 3e38f : -3e38f);
  }
  const BatchResult result = Run(*backend, problems);
  REQUIRE(result.statuses[0].ok());
  REQUIRE(result.statuses[1].code() == absl::StatusCode::kOutOfRange);
  REQUIRE(std::string(result.statuses[1].message()).find("token 1, head 2") != std::string::npos);
  REQUIRE(result.statuses[2].ok());
  Run(*backend, clean);
  REQUIRE(SameBits(problems[0], clean[0]));
  REQUIRE(SameBits(problems[2], clean[2]));
}

TEST_CASE("several batches are in flight at once and each comes back once") {
  TestStore store(kUsualGeometry, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t chunk = store.AddChunk(300);
  std::vector<TestProblem> problems;
  for (uint64_t i = 0; i < 3; ++i) {
    problems.push_back(
        OneGroup(store, i == 2 ? 128 : 16, 2, true, {{store.page_ids(chunk), 300, 0}}, i));
  }
  for (const auto& over : Tested().configurations) {
    const RunningBackend backend = over(store);
    for (uint64_t round = 0; round < 5; ++round) {
      std::vector<Problem> views;
      for (TestProblem& problem : problems) {
        problem.PoisonOutputs(kUsualGeometry);
        views.push_back(problem.View());
      }
      for (uint64_t i = 0; i < 3; ++i) backend->Submit(round * 3 + i, {&views[i], 1});
      REQUIRE(backend->in_flight() == backend->max_in_flight());
      std::vector<BatchResult> done;
      while (backend->in_flight() > 0) backend->Poll(done);
      REQUIRE(done.size() == 3);
      std::sort(done.begin(), done.end(),
                [](const BatchResult& a, const BatchResult& b) { return a.batch_id < b.batch_id; });
      for (uint64_t i = 0; i < 3; ++i) {
        REQUIRE(done[i].batch_id == round * 3 + i);
        REQUIRE(done[i].compute_ns > 0);
        RequireOk(done[i]);
      }
    }
  }
  for (TestProblem& problem : problems) RequireClose(store, problem);
}

TEST_CASE("an idle backend has nothing to poll, and one with work in flight can be destroyed") {
  TestStore store(kUsualGeometry, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t chunk = store.AddChunk(700);
  TestProblem problem = OneGroup(store, 64, 1, false, {{store.page_ids(chunk), 700, 0}});
  const Problem view = problem.View();
  for (const auto& over : Tested().configurations) {
    const RunningBackend backend = over(store);
    std::vector<BatchResult> done;
    REQUIRE_FALSE(backend->Poll(done));
    backend->Submit(1, {&view, 1});
    backend->Poll(done);
  }
}

}  // namespace
}  // namespace latentd
