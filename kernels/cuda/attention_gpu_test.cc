// The CUDA backend against the fp64 reference. Needs a GPU of compute capability 9.0: run by
// tests/gpu/run.sh, not by `bazel test`.
#include <cuda_runtime.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <utility>

#include "kernels/bf16.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/memory.h"
#include "kernels/records.h"
#include "kernels/testing/test_problem.h"
#include "kernels/testing/test_store.h"
#include "kernels/validate.h"

namespace latentd {
namespace {

constexpr Geometry kUsual{512, 64};
constexpr Geometry kTiny{8, 4};

constexpr double kOutTolerance = 4e-3;
constexpr double kLseTolerance = 1e-3;
// fp8 records whose scales are no powers of two are rounded to bf16 before the products.
constexpr double kRoundedTolerance = 2e-2;

// A store's copy on the device, and a backend over it.
class OnDevice {
 public:
  OnDevice(const TestStore& store, uint32_t pages, int max_in_flight = 3) {
    const CacheView host = store.view();
    REQUIRE(arena_.Grow(pages * host.page_bytes).ok());
    REQUIRE(cudaMemcpy(arena_.data(), host.arena, pages * host.page_bytes,
                       cudaMemcpyHostToDevice) == cudaSuccess);
    auto backend = MakeCudaBackend({.geometry = store.geometry(),
                                    .format = store.format(),
                                    .cache = {arena_.data(), host.page_bytes, host.layer_bytes},
                                    .pages = pages,
                                    .max_in_flight = max_in_flight});
    INFO(backend.status().ToString());
    REQUIRE(backend.ok());
    backend_ = *std::move(backend);
  }
  Backend& operator*() { return *backend_; }
  Backend* operator->() { return backend_.get(); }

 private:
  DeviceMemory arena_;
  std::unique_ptr<Backend> backend_;
};

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

void RequireOk(const BatchResult& result) {
  for (const absl::Status& status : result.statuses) {
    INFO(status.ToString());
    REQUIRE(status.ok());
  }
}

bool SameBits(const TestProblem& a, const TestProblem& b) {
  return a.out == b.out &&
         std::memcmp(a.lse.data(), b.lse.data(), a.lse.size() * sizeof(float)) == 0;
}

void RequireClose(const TestStore& store, TestProblem& problem, double tolerance = kOutTolerance) {
  const Error error = CompareWithReference(store, problem);
  CAPTURE(problem.heads, problem.tokens(), problem.segments.size());
  REQUIRE(error.defect == "");
  REQUIRE(error.out <= tolerance);
  REQUIRE(error.lse <= (tolerance == kOutTolerance ? kLseTolerance : 0.1));
}

TestProblem OneGroup(const TestStore& store, uint32_t heads, uint32_t tokens, bool causal,
                     const std::vector<Segment>& segments, uint64_t seed = 1,
                     OutFormat format = OutFormat::kFp32, float scale = 0.1f) {
  std::mt19937_64 random(seed);
  TestProblem problem;
  problem.heads = heads;
  problem.scale = scale;
  problem.out_format = format;
  problem.AddGroup(tokens, causal, segments);
  problem.Fill(store.geometry(), random);
  return problem;
}

// Makes an fp8 store's scales powers of two, as our own quantiser does.
void RoundScales(TestStore& store, uint32_t layers) {
  const Geometry& g = store.geometry();
  for (uint32_t chunk = 0; chunk < store.chunks(); ++chunk) {
    for (uint32_t layer = 0; layer < layers; ++layer) {
      for (uint32_t token = 0; token < store.tokens(chunk); ++token) {
        auto* scales = store.record(chunk, layer, token) + Fp8ScalesOffset(g);
        for (uint32_t block = 0; block < g.latent_width / kFp8ScaleWidth; ++block) {
          float scale;
          std::memcpy(&scale, scales + block * sizeof(scale), sizeof(scale));
          scale = std::exp2(std::round(std::log2(scale)));
          std::memcpy(scales + block * sizeof(scale), &scale, sizeof(scale));
        }
      }
    }
  }
}

void CheckRandomBatches(const Geometry& geometry, RecordFormat format, uint32_t max_heads,
                        uint32_t problem_count, uint64_t seed, bool round_scales = true) {
  CAPTURE(geometry.latent_width, geometry.rope_width, RecordFormatName(format), seed);
  constexpr uint32_t kLayers = 2;
  constexpr uint32_t kPages = 64;
  std::mt19937_64 random(seed);
  TestStore store(geometry, format, kLayers, kPages, seed);
  for (uint32_t tokens : {1u, 63u, 64u, 65u, 300u, 1300u}) store.AddChunk(tokens);
  if (format == RecordFormat::kFp8 && round_scales) RoundScales(store, kLayers);
  const double tolerance =
      format == RecordFormat::kFp8 && !round_scales ? kRoundedTolerance : kOutTolerance;

  std::vector<TestProblem> problems;
  for (uint32_t i = 0; i < problem_count; ++i) {
    problems.push_back(RandomProblem(store, kLayers, max_heads, 6, random));
    // Wide softmaxes, as models have them: at 0.3 one token in a thousand decides, and its logit's
    // rounding is all that one sees.
    problems.back().scale *= 0.5f;
    REQUIRE(ValidateProblem(problems.back().View(), geometry).ok());
  }
  std::vector<TestProblem> alone = problems;
  std::vector<TestProblem> again = problems;

  OnDevice device(store, kPages);
  RequireOk(Run(*device, problems));
  RequireOk(Run(*device, again));
  for (size_t i = 0; i < problems.size(); ++i) {
    CAPTURE(i);
    RequireClose(store, problems[i], tolerance);
    REQUIRE(SameBits(again[i], problems[i]));
    REQUIRE(RunOne(*device, alone[i]).ok());
    RequireClose(store, alone[i], tolerance);
  }
}

TEST_CASE("random batches of bf16 records agree with fp64, alone or together") {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    CheckRandomBatches(kUsual, RecordFormat::kBf16, seed % 2 ? 20 : 128, 4, seed);
  }
}

TEST_CASE("random batches of fp8 records agree with fp64, alone or together") {
  for (uint64_t seed = 11; seed <= 14; ++seed) {
    CheckRandomBatches(kUsual, RecordFormat::kFp8, seed % 2 ? 20 : 128, 4, seed);
  }
  CheckRandomBatches(kUsual, RecordFormat::kFp8, 20, 4, 15, false);
}

TEST_CASE("random batches agree with fp64 at any widths") {
  uint64_t seed = 100;
  for (const Geometry& geometry :
       {kTiny, Geometry{1, 0}, Geometry{5, 2}, Geometry{96, 32}, Geometry{544, 64}}) {
    CheckRandomBatches(geometry, RecordFormat::kBf16, 20, 3, ++seed);
  }
  for (const Geometry& geometry : {Geometry{128, 6}, Geometry{256, 32}}) {
    CheckRandomBatches(geometry, RecordFormat::kFp8, 20, 3, ++seed);
  }
}

TEST_CASE("one query token's heads over one chunk, every head count and length that matters") {
  for (RecordFormat format : {RecordFormat::kBf16, RecordFormat::kFp8}) {
    TestStore store(kUsual, format, 1, 200, 5);
    const uint32_t chunk = store.AddChunk(8192);
    if (format == RecordFormat::kFp8) RoundScales(store, 1);
    OnDevice device(store, 200);
    for (uint32_t heads : {1u, 7u, 8u, 9u, 16u, 25u, 32u, 65u, 127u, 128u}) {
      for (uint32_t tokens : {1u, 63u, 65u, 512u, 777u, 2047u, 2049u, 8192u}) {
        // The reference takes its time.
        if (heads * tokens > 50000 && heads * tokens != 16 * 8192 && heads * tokens != 128 * 2047) {
          continue;
        }
        CAPTURE(heads, tokens, RecordFormatName(format));
        TestProblem problem =
            OneGroup(store, heads, 1, false, {{store.page_ids(chunk), tokens, 0}}, heads + tokens,
                     tokens % 2 ? OutFormat::kFp32 : OutFormat::kBf16);
        TestProblem again = problem;
        REQUIRE(RunOne(*device, problem).ok());
        RequireClose(store, problem);
        REQUIRE(RunOne(*device, again).ok());
        REQUIRE(SameBits(problem, again));
      }
    }
  }
}

TEST_CASE("many requesters of one chunk share its passes and get what each would get alone") {
  TestStore store(kUsual, RecordFormat::kBf16, 2, 64, 5);
  const uint32_t hot = store.AddChunk(700);
  const uint32_t own = store.AddChunk(100);
  OnDevice device(store, 64);
  for (uint32_t heads : {16u, 128u}) {
    std::vector<TestProblem> problems;
    for (uint32_t i = 0; i < (heads == 16 ? 20u : 6u); ++i) {
      std::vector<Segment> segments{{store.page_ids(hot), 700 - 13 * (i % 4), 0}};
      // Some attend one more chunk, some another layer.
      if (i % 5 == 4) segments.push_back({store.page_ids(own), 100, 0});
      problems.push_back(OneGroup(store, heads, 1, false, segments, i, OutFormat::kBf16));
      problems.back().layer = i % 7 == 6;
    }
    RequireOk(Run(*device, problems));
    for (TestProblem& problem : problems) RequireClose(store, problem);
  }
}

TEST_CASE("several single queries in one launch") {
  TestStore store(kUsual, RecordFormat::kBf16, 1, 300, 5);
  for (uint32_t i = 0; i < 8; ++i) store.AddChunk(300 - i);
  OnDevice device(store, 300);
  for (uint32_t heads : {16u, 128u}) {
    for (uint32_t count : {2u, 8u}) {
      CAPTURE(heads, count);
      std::vector<TestProblem> problems;
      for (uint32_t i = 0; i < count; ++i) {
        problems.push_back(OneGroup(store, heads, 1, false,
                                    {{store.page_ids(i), store.tokens(i), 0}}, i,
                                    OutFormat::kBf16));
      }
      RequireOk(Run(*device, problems));
      for (TestProblem& problem : problems) RequireClose(store, problem);
    }
  }
}

TEST_CASE("a row that sees nothing answers zero and minus infinity") {
  TestStore store(kUsual, RecordFormat::kBf16, 1, 4, 5);
  const uint32_t chunk = store.AddChunk(3);
  OnDevice device(store, 4);
  for (const auto& segments : {std::vector<Segment>{},
                               {{nullptr, 0, 0}, {nullptr, 0, 0}},
                               {{store.page_ids(chunk), 2, 0}}}) {
    TestProblem problem = OneGroup(store, 2, 5, true, segments);
    REQUIRE(RunOne(*device, problem).ok());
    REQUIRE(problem.lse[0] == -std::numeric_limits<float>::infinity());
    RequireClose(store, problem);
  }
  std::vector<TestProblem> none;
  REQUIRE(Run(*device, none).statuses.empty());
  TestProblem empty;
  REQUIRE(RunOne(*device, empty).ok());
}

TEST_CASE("negative, zero and large scales") {
  TestStore store(kUsual, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t chunk = store.AddChunk(700);
  OnDevice device(store, 16);
  for (float scale : {-0.1f, 0.0f, 1e-6f, 3.0f}) {
    CAPTURE(scale);
    TestProblem problem =
        OneGroup(store, 16, 2, true, {{store.page_ids(chunk), 700, 0}}, 1, OutFormat::kFp32, scale);
    REQUIRE(RunOne(*device, problem).ok());
    RequireClose(store, problem);
  }
}

TEST_CASE("a row whose logits leave fp32 is named and harms no other problem") {
  TestStore store(kUsual, RecordFormat::kBf16, 1, 4, 5);
  const Segment all{store.page_ids(store.AddChunk(100)), 100, 0};
  OnDevice device(store, 4);
  std::vector<TestProblem> problems{OneGroup(store, 3, 2, false, {all}),
                                    OneGroup(store, 3, 2, false, {all}, 2),
                                    OneGroup(store, 3, 2, false, {all}, 3)};
  std::vector<TestProblem> clean = problems;
  // Token 1, head 2 of the second problem.
  for (uint32_t i = 0; i < kUsual.row_width(); ++i) {
    problems[1].rows[5 * kUsual.row_width() + i] = FloatToBf16(i % 2 == 0 ? 3e38f : -3e38f);
  }
  const BatchResult result = Run(*device, problems);
  REQUIRE(result.statuses[0].ok());
  REQUIRE(result.statuses[1].code() == absl::StatusCode::kOutOfRange);
  REQUIRE(std::string(result.statuses[1].message()).find("token 1, head 2") != std::string::npos);
  REQUIRE(result.statuses[2].ok());
  Run(*device, clean);
  REQUIRE(SameBits(problems[0], clean[0]));
  REQUIRE(SameBits(problems[2], clean[2]));
}

TEST_CASE("device and pinned memory are used in place") {
  TestStore store(kUsual, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t chunk = store.AddChunk(700);
  OnDevice device(store, 16);
  TestProblem problem = OneGroup(store, 16, 2, true, {{store.page_ids(chunk), 700, 0}});
  DeviceMemory rows;
  PinnedMemory out;
  REQUIRE(rows.Grow(problem.rows.size() * sizeof(Bf16)).ok());
  REQUIRE(out.Grow(problem.out.size() + problem.lse.size() * sizeof(float)).ok());
  REQUIRE(cudaMemcpy(rows.data(), problem.rows.data(), problem.rows.size() * sizeof(Bf16),
                     cudaMemcpyDefault) == cudaSuccess);
  Problem view = problem.View();
  view.rows = reinterpret_cast<const Bf16*>(rows.data());
  view.out = out.data();
  view.lse = reinterpret_cast<float*>(out.data() + problem.out.size());
  device->Submit(1, {&view, 1});
  std::vector<BatchResult> done;
  while (done.empty()) device->Poll(done);
  RequireOk(done[0]);
  REQUIRE(done[0].compute_ns > 0);
  std::memcpy(problem.out.data(), view.out, problem.out.size());
  std::memcpy(problem.lse.data(), view.lse, problem.lse.size() * sizeof(float));
  RequireClose(store, problem);
}

TEST_CASE("several batches are in flight at once and each comes back once") {
  TestStore store(kUsual, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t chunk = store.AddChunk(700);
  OnDevice device(store, 16);
  std::vector<TestProblem> problems;
  for (uint64_t i = 0; i < 3; ++i) {
    problems.push_back(
        OneGroup(store, i == 2 ? 128 : 16, 4, true, {{store.page_ids(chunk), 700, 0}}, i));
  }
  for (uint64_t round = 0; round < 30; ++round) {
    std::vector<Problem> views;
    for (TestProblem& problem : problems) {
      problem.PoisonOutputs(kUsual);
      views.push_back(problem.View());
    }
    for (uint64_t i = 0; i < 3; ++i) device->Submit(round * 3 + i, {&views[i], 1});
    REQUIRE(device->in_flight() == device->max_in_flight());
    std::vector<BatchResult> done;
    while (device->in_flight() > 0) device->Poll(done);
    REQUIRE(done.size() == 3);
    for (const BatchResult& result : done) RequireOk(result);
  }
  for (TestProblem& problem : problems) RequireClose(store, problem);
}

TEST_CASE("what cannot be a backend is refused with a reason") {
  CudaBackendOptions options;
  options.device = 1000;
  REQUIRE(MakeCudaBackend(options).status().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace latentd
