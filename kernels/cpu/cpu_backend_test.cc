// What the CPU backend promises beyond every backend's promises (testing/backend_test_cases.cc).
#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "hwy/targets.h"
#include "kernels/bf16.h"
#include "kernels/testing/backend_checks.h"

namespace latentd {

namespace {

RunningBackend CpuBackendOver(const TestStore& store, int threads) {
  return {.memory = nullptr,
          .backend = MakeCpuBackend({.geometry = store.geometry(),
                                     .format = store.format(),
                                     .cache = store.view(),
                                     .threads = threads,
                                     .max_in_flight = 3})};
}

}  // namespace

const TestedBackend& Tested() {
  static const TestedBackend tested = [] {
    TestedBackend cpu{.tolerance = {2e-5, 1e-4},
                      .any_scale_tolerance = {2e-5, 1e-4},
                      .same_bits_in_any_batch = true};
    for (int threads : {0, 1, 3}) {
      cpu.configurations.push_back(
          [threads](const TestStore& store) { return CpuBackendOver(store, threads); });
    }
    return cpu;
  }();
  return tested;
}

namespace {

// Lets Highway choose only `target` while it lives.
struct OnlyTarget {
  explicit OnlyTarget(int64_t target) { Set(target); }
  ~OnlyTarget() { Set(0); }
  static void Set(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST_CASE("every instruction set that this machine has agrees with fp64") {
  const int64_t supported = hwy::SupportedTargets();
  for (int64_t target : {int64_t{HWY_SCALAR}, int64_t{HWY_AVX2}, int64_t{HWY_AVX3}}) {
    if ((supported & target) == 0) continue;
    CAPTURE(target);
    const OnlyTarget only(target);
    CheckRandomBatch({.format = RecordFormat::kBf16, .max_heads = 8}, 11);
    CheckRandomBatch({.format = RecordFormat::kFp8, .max_heads = 8, .round_scales = false}, 12);
    CheckRandomBatch({.geometry = kTinyGeometry, .max_heads = 8}, 13);
  }
}

TEST_CASE("a row over fp8 records has the same bits in tiles of any number of rows") {
  TestStore store(kUsualGeometry, RecordFormat::kFp8, 1, 8, 5);
  const std::vector<Segment> all{{store.page_ids(store.AddChunk(330)), 330, 0}};
  const int64_t supported = hwy::SupportedTargets();
  for (int64_t target : {int64_t{HWY_SCALAR}, int64_t{HWY_AVX2}, int64_t{HWY_AVX3}}) {
    if ((supported & target) == 0) continue;
    CAPTURE(target);
    const OnlyTarget only(target);
    const RunningBackend backend = BackendOver(store);
    TestProblem alone = OneGroup(store, 1, 1, false, all);
    REQUIRE(RunOne(*backend, alone).ok());
    RequireClose(store, alone);
    for (uint32_t heads = 2; heads <= 17; ++heads) {
      CAPTURE(heads);
      TestProblem problem =
          OneGroup(store, heads, 1, false, all);  // its first row is the one above
      REQUIRE(RunOne(*backend, problem).ok());
      REQUIRE(std::equal(alone.out.begin(), alone.out.end(), problem.out.begin()));
      REQUIRE(alone.lse[0] == problem.lse[0]);
    }
  }
}

TEST_CASE("one token attends a long context in many pieces") {
  // Beyond 64 pieces of four pages, pieces grow.
  TestStore store(kTinyGeometry, RecordFormat::kBf16, 1, 400, 5);
  const uint32_t chunk = store.AddChunk(64 * 4 * kPageTokens + 7);
  const RunningBackend backend = CpuBackendOver(store, 3);
  TestProblem problem =
      OneGroup(store, 2, 1, false, {{store.page_ids(chunk), store.tokens(chunk), 0}});
  REQUIRE(RunOne(*backend, problem).ok());
  RequireClose(store, problem);
}

TEST_CASE("a batch with more rows than memory for their pieces is computed in waves") {
  TestStore store(kTinyGeometry, RecordFormat::kBf16, 1, 8, 5);
  const uint32_t chunk = store.AddChunk(300);
  TestProblem problem = OneGroup(store, kMaxHeads, 200, false, {{store.page_ids(chunk), 300, 0}});
  for (int threads : {0, 2}) {
    const RunningBackend backend = CpuBackendOver(store, threads);
    problem.PoisonOutputs(kTinyGeometry);
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

TEST_CASE("a row whose output leaves fp32 is an error too, not an infinity") {
  TestStore store(kTinyGeometry, RecordFormat::kBf16, 1, 4, 5);
  const uint32_t chunk = store.AddChunk(2);
  for (uint32_t t = 0; t < 2; ++t) {
    auto* values = reinterpret_cast<Bf16*>(store.record(chunk, 0, t));
    std::fill_n(values, kTinyGeometry.row_width(), FloatToBf16(0));
    values[0].bits = 0x7f7f;  // the largest
  }
  const RunningBackend backend = BackendOver(store);
  TestProblem problem = OneGroup(store, 1, 1, false, {{store.page_ids(chunk), 2, 0}});
  std::fill(problem.rows.begin(), problem.rows.end(), FloatToBf16(0));
  const absl::Status status = RunOne(*backend, problem);
  // The sum of two largest values overflows before it is divided by two.
  REQUIRE(status.code() == absl::StatusCode::kOutOfRange);
}

TEST_CASE("a cancelled batch ends without its answers, and harms no other") {
  TestStore store(kUsualGeometry, RecordFormat::kBf16, 1, 12, 5);
  const uint32_t chunk = store.AddChunk(700);
  for (const int threads : {0, 1, 3}) {
    CAPTURE(threads);
    const RunningBackend backend = CpuBackendOver(store, threads);
    // More pieces than one wave has: the last rows' turn comes only in a Poll.
    TestProblem large = OneGroup(store, kMaxHeads, 64, false, {{store.page_ids(chunk), 700, 0}});
    const std::vector<std::byte> untouched = large.out;
    TestProblem small = OneGroup(store, 2, 1, false, {{store.page_ids(chunk), 700, 0}});
    const std::vector<Problem> problems = {large.View(), small.View()};
    backend->Submit(1, std::span(problems).first(1));
    backend->Submit(2, std::span(problems).last(1));
    std::vector<BatchResult> done;
    // In the middle of a tile, where nobody helps.
    if (threads == 0) backend->Poll(done);
    backend->Cancel(1);
    backend->Cancel(99);
    while (done.size() < 2) backend->Poll(done);
    const BatchResult& first = done[0].batch_id == 1 ? done[0] : done[1];
    REQUIRE(absl::IsCancelled(first.statuses.at(0)));
    const size_t row_bytes = untouched.size() / (size_t{kMaxHeads} * 64);
    REQUIRE(std::equal(untouched.end() - static_cast<int64_t>(row_bytes), untouched.end(),
                       large.out.end() - static_cast<int64_t>(row_bytes)));
    if (threads == 0) REQUIRE(large.out == untouched);
    RequireClose(store, small);
    // Its place is free again.
    REQUIRE(RunOne(*backend, small).ok());
    RequireClose(store, small);
  }
}

TEST_CASE("a backend says what it runs on") {
  TestStore store(kTinyGeometry, RecordFormat::kBf16, 1, 1, 5);
  REQUIRE(BackendOver(store)->Describe().find("1 thread)") != std::string::npos);
  REQUIRE(CpuBackendOver(store, 1)->Describe().find("2 threads)") != std::string::npos);
}

}  // namespace
}  // namespace latentd
