#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <utility>

#include "hwy/targets.h"
#include "kernels/bf16.h"
#include "kernels/testing/test_problem.h"
#include "kernels/testing/test_store.h"
#include "kernels/validate.h"

namespace latentd {
namespace {

constexpr Geometry kUsual{512, 64};
constexpr Geometry kTiny{8, 4};

// bf16 outputs carry half a unit in the last place of rounding; fp32 ones show the arithmetic
// itself.
constexpr double kBf16Tolerance = 4e-3;
constexpr double kFp32Tolerance = 2e-5;
constexpr double kLseTolerance = 1e-4;

std::unique_ptr<Backend> BackendOver(const TestStore& store, int threads = 0) {
  return MakeCpuBackend({.geometry = store.geometry(),
                         .format = store.format(),
                         .cache = store.view(),
                         .threads = threads,
                         .max_in_flight = 3});
}

// Submits one batch and polls until it is back.
BatchResult Run(Backend& backend, std::vector<TestProblem>& problems) {
  std::vector<Problem> views;
  for (TestProblem& problem : problems) views.push_back(problem.View());
  backend.Submit(7, views);
  std::vector<BatchResult> done;
  while (done.empty()) backend.Poll(done);
  REQUIRE(done.size() == 1);
  REQUIRE(done[0].batch_id == 7);
  REQUIRE(done[0].statuses.size() == problems.size());
  return done[0];
}

absl::Status RunOne(Backend& backend, TestProblem& problem) {
  std::vector<TestProblem> problems{std::move(problem)};
  const BatchResult result = Run(backend, problems);
  problem = std::move(problems[0]);
  return result.statuses[0];
}

bool SameBits(const TestProblem& a, const TestProblem& b) {
  return a.out == b.out &&
         std::memcmp(a.lse.data(), b.lse.data(), a.lse.size() * sizeof(float)) == 0;
}

void RequireClose(const TestStore& store, TestProblem& problem) {
  const Error error = CompareWithReference(store, problem);
  REQUIRE(error.defect == "");
  // A few values can cancel to nearly nothing, which no relative error survives; many do not.
  const bool exact = problem.out_format == OutFormat::kFp32 && store.geometry().latent_width >= 32;
  REQUIRE(error.out <= (exact ? kFp32Tolerance : kBf16Tolerance));
  REQUIRE(error.lse <= kLseTolerance);
}

TestProblem OneGroup(const TestStore& store, uint32_t heads, uint32_t tokens, bool causal,
                     const std::vector<Segment>& segments, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  TestProblem problem;
  problem.heads = heads;
  problem.out_format = OutFormat::kFp32;
  problem.AddGroup(tokens, causal, segments);
  problem.Fill(store.geometry(), random);
  return problem;
}

// Lets Highway choose only `target` while it lives.
struct OnlyTarget {
  explicit OnlyTarget(int64_t target) { Set(target); }
  ~OnlyTarget() { Set(0); }
  static void Set(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

void CheckRandomBatches(const Geometry& geometry, RecordFormat format, uint32_t max_heads,
                        uint64_t seed) {
  CAPTURE(geometry.latent_width, geometry.rope_width, RecordFormatName(format), seed);
  constexpr uint32_t kLayers = 2;
  std::mt19937_64 random(seed);
  TestStore store(geometry, format, kLayers, 64, seed);
  for (uint32_t tokens : {1u, 63u, 64u, 65u, 300u, 700u}) store.AddChunk(tokens);

  std::vector<TestProblem> problems;
  for (int i = 0; i < 4; ++i) {
    problems.push_back(RandomProblem(store, kLayers, max_heads, 6, random));
    REQUIRE(ValidateProblem(problems.back().View(), geometry).ok());
  }
  std::vector<TestProblem> alone = problems;

  const auto backend = BackendOver(store);
  const BatchResult result = Run(*backend, problems);
  for (size_t i = 0; i < problems.size(); ++i) {
    CAPTURE(i);
    REQUIRE(result.statuses[i].ok());
    RequireClose(store, problems[i]);
    REQUIRE(RunOne(*backend, alone[i]).ok());
    REQUIRE(SameBits(alone[i], problems[i]));
  }
  for (int threads : {1, 3}) {
    CAPTURE(threads);
    std::vector<TestProblem> again = problems;
    for (TestProblem& problem : again) problem.PoisonOutputs(geometry);
    const auto threaded = BackendOver(store, threads);
    for (const absl::Status& status : Run(*threaded, again).statuses) REQUIRE(status.ok());
    for (size_t i = 0; i < problems.size(); ++i) REQUIRE(SameBits(again[i], problems[i]));
  }
}

TEST_CASE("random batches agree with fp64, alone or together, on any number of threads") {
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    CheckRandomBatches(kUsual, RecordFormat::kBf16, 20, seed);
    CheckRandomBatches(kUsual, RecordFormat::kFp8, 20, seed);
  }
}

TEST_CASE("random batches agree with fp64 at any widths") {
  uint64_t seed = 100;
  for (const Geometry& geometry : {kTiny, Geometry{1, 0}, Geometry{5, 2}, Geometry{32, 0},
                                   Geometry{40, 6}, Geometry{96, 32}, Geometry{544, 64}}) {
    for (int i = 0; i < 3; ++i) CheckRandomBatches(geometry, RecordFormat::kBf16, 40, ++seed);
  }
  for (const Geometry& geometry : {Geometry{128, 0}, Geometry{128, 6}, Geometry{256, 32}}) {
    for (int i = 0; i < 3; ++i) CheckRandomBatches(geometry, RecordFormat::kFp8, 40, ++seed);
  }
}

TEST_CASE("every instruction set that this machine has agrees with fp64") {
  const int64_t supported = hwy::SupportedTargets();
  for (int64_t target : {int64_t{HWY_SCALAR}, int64_t{HWY_AVX2}, int64_t{HWY_AVX3}}) {
    if ((supported & target) == 0) continue;
    CAPTURE(target);
    const OnlyTarget only(target);
    CheckRandomBatches(kUsual, RecordFormat::kBf16, 8, 11);
    CheckRandomBatches(kUsual, RecordFormat::kFp8, 8, 12);
    CheckRandomBatches(kTiny, RecordFormat::kBf16, 8, 13);
  }
}

TEST_CASE("all head counts from one to 128 are computed") {
  TestStore store(kTiny, RecordFormat::kBf16, 1, 8, 5);
  const Segment all{store.page_ids(store.AddChunk(130)), 130, 0};
  const auto backend = BackendOver(store);
  for (uint32_t heads = 1; heads <= kMaxHeads; ++heads) {
    TestProblem problem = OneGroup(store, heads, 1, false, {all}, heads);
    REQUIRE(RunOne(*backend, problem).ok());
    RequireClose(store, problem);
  }
}

TEST_CASE("a row that sees nothing answers zero and minus infinity") {
  TestStore store(kTiny, RecordFormat::kBf16, 1, 4, 5);
  const uint32_t chunk = store.AddChunk(3);
  const auto backend = BackendOver(store);
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
  TestStore store(kTiny, RecordFormat::kBf16, 1, 1, 5);
  const auto backend = BackendOver(store, 1);
  std::vector<TestProblem> none;
  REQUIRE(Run(*backend, none).statuses.empty());
  TestProblem empty;
  REQUIRE(RunOne(*backend, empty).ok());
}

TEST_CASE("each token of a causal group sees one more than the one before") {
  TestStore store(kTiny, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t first = store.AddChunk(70);
  const uint32_t last = store.AddChunk(5);
  const auto backend = BackendOver(store);
  TestProblem causal =
      OneGroup(store, 3, 9, true, {{store.page_ids(first), 70, 5}, {store.page_ids(last), 5, 0}});
  REQUIRE(RunOne(*backend, causal).ok());
  RequireClose(store, causal);
  // Query token 2 of 9 sees 75 - 6 = 69 tokens, all of them in the first chunk.
  TestProblem single = OneGroup(store, 3, 1, false, {{store.page_ids(first), 69, 0}});
  std::copy_n(causal.rows.begin() + 2 * 3 * kTiny.row_width(), single.rows.size(),
              single.rows.begin());
  REQUIRE(RunOne(*backend, single).ok());
  REQUIRE(std::equal(single.lse.begin(), single.lse.end(), causal.lse.begin() + 2 * 3));
}

TEST_CASE("one token attends a long context in many pieces") {
  // Beyond 64 pieces of four pages, pieces grow.
  TestStore store(kTiny, RecordFormat::kBf16, 1, 400, 5);
  const uint32_t chunk = store.AddChunk(64 * 4 * kPageTokens + 7);
  const auto backend = BackendOver(store, 3);
  TestProblem problem =
      OneGroup(store, 2, 1, false, {{store.page_ids(chunk), store.tokens(chunk), 0}});
  REQUIRE(RunOne(*backend, problem).ok());
  RequireClose(store, problem);
}

TEST_CASE("a batch with more rows than memory for their pieces is computed in waves") {
  TestStore store(kTiny, RecordFormat::kBf16, 1, 8, 5);
  const uint32_t chunk = store.AddChunk(300);
  TestProblem problem = OneGroup(store, kMaxHeads, 200, false, {{store.page_ids(chunk), 300, 0}});
  for (int threads : {0, 2}) {
    const auto backend = BackendOver(store, threads);
    problem.PoisonOutputs(kTiny);
    REQUIRE(RunOne(*backend, problem).ok());
    // All of it against the reference would take a minute: the last token's rows are those of a
    // problem of one token.
    TestProblem last = OneGroup(store, kMaxHeads, 1, false, {{store.page_ids(chunk), 300, 0}});
    std::copy(problem.rows.end() - static_cast<int64_t>(last.rows.size()), problem.rows.end(),
              last.rows.begin());
    REQUIRE(RunOne(*backend, last).ok());
    RequireClose(store, last);
    REQUIRE(std::equal(last.out.rbegin(), last.out.rend(), problem.out.rbegin()));
    REQUIRE(std::none_of(problem.lse.begin(), problem.lse.end(),
                         [](float lse) { return std::isnan(lse); }));
  }
}

TEST_CASE("a row whose logits leave fp32 is named and harms no other problem") {
  TestStore store(kUsual, RecordFormat::kBf16, 1, 4, 5);
  const Segment all{store.page_ids(store.AddChunk(100)), 100, 0};
  const auto backend = BackendOver(store, 1);
  std::vector<TestProblem> problems{OneGroup(store, 3, 2, false, {all}),
                                    OneGroup(store, 3, 2, false, {all}, 2),
                                    OneGroup(store, 3, 2, false, {all}, 3)};
  std::vector<TestProblem> clean = problems;
  // Token 1, head 2 of the second problem.
  for (uint32_t i = 0; i < kUsual.row_width(); ++i) {
    problems[1].rows[5 * kUsual.row_width() + i] = FloatToBf16(i % 2 == 0 ? 3e38f : -3e38f);
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

TEST_CASE("a row whose output leaves fp32 is an error too, not an infinity") {
  TestStore store(kTiny, RecordFormat::kBf16, 1, 4, 5);
  const uint32_t chunk = store.AddChunk(2);
  for (uint32_t t = 0; t < 2; ++t) {
    auto* values = reinterpret_cast<Bf16*>(store.record(chunk, 0, t));
    std::fill_n(values, kTiny.row_width(), FloatToBf16(0));
    values[0].bits = 0x7f7f;  // the largest
  }
  const auto backend = BackendOver(store);
  TestProblem problem = OneGroup(store, 1, 1, false, {{store.page_ids(chunk), 2, 0}});
  std::fill(problem.rows.begin(), problem.rows.end(), FloatToBf16(0));
  const absl::Status status = RunOne(*backend, problem);
  // The sum of two largest values overflows before it is divided by two.
  REQUIRE(status.code() == absl::StatusCode::kOutOfRange);
}

TEST_CASE("several batches are in flight at once and each comes back once") {
  TestStore store(kTiny, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t chunk = store.AddChunk(700);
  for (int threads : {0, 2}) {
    const auto backend = BackendOver(store, threads);
    std::vector<TestProblem> problems;
    for (uint64_t i = 0; i < 3; ++i) {
      problems.push_back(OneGroup(store, 16, 4, true, {{store.page_ids(chunk), 700, 0}}, i));
    }
    for (uint64_t round = 0; round < 30; ++round) {
      std::vector<Problem> views;
      for (TestProblem& problem : problems) {
        problem.PoisonOutputs(kTiny);
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
      }
    }
    for (TestProblem& problem : problems) RequireClose(store, problem);
  }
}

TEST_CASE("an idle backend has nothing to poll, and one with work in flight can be destroyed") {
  TestStore store(kUsual, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t chunk = store.AddChunk(700);
  TestProblem problem = OneGroup(store, 64, 1, false, {{store.page_ids(chunk), 700, 0}});
  const Problem view = problem.View();
  const auto backend = BackendOver(store, 2);
  std::vector<BatchResult> done;
  REQUIRE_FALSE(backend->Poll(done));
  backend->Submit(1, {&view, 1});
  backend->Poll(done);
}

TEST_CASE("a backend says what it runs on") {
  TestStore store(kTiny, RecordFormat::kBf16, 1, 1, 5);
  REQUIRE(BackendOver(store)->Describe().find("1 thread)") != std::string::npos);
  REQUIRE(BackendOver(store, 1)->Describe().find("2 threads)") != std::string::npos);
}

}  // namespace
}  // namespace latentd
