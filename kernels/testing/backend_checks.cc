#include "kernels/testing/backend_checks.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "kernels/records.h"
#include "kernels/validate.h"

namespace latentd {

RunningBackend BackendOver(const TestStore& store) {
  return Tested().configurations.front()(store);
}

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

void RequireClose(const TestStore& store, TestProblem& problem, const Tolerance& tolerance) {
  const Error error = CompareWithReference(store, problem);
  CAPTURE(problem.heads, problem.tokens(), problem.segments.size());
  REQUIRE(error.defect == "");
  // A few values can cancel to nearly nothing, which no relative error survives; many do not.
  const bool exact = problem.out_format == OutFormat::kFp32 && store.geometry().latent_width >= 32;
  REQUIRE(error.out <= (exact ? tolerance.out : std::max(tolerance.out, kBf16Rounding)));
  REQUIRE(error.lse <= tolerance.lse);
}

TestProblem OneGroup(const TestStore& store, uint32_t heads, uint32_t tokens, bool causal,
                     const std::vector<Segment>& segments, uint64_t seed, OutFormat format,
                     float scale) {
  std::mt19937_64 random(seed);
  TestProblem problem;
  problem.heads = heads;
  problem.scale = scale;
  problem.out_format = format;
  problem.AddGroup(tokens, causal, segments);
  problem.Fill(store.geometry(), random);
  return problem;
}

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

void CheckRandomBatch(const RandomBatch& batch, uint64_t seed) {
  const Geometry& geometry = batch.geometry;
  CAPTURE(geometry.latent_width, geometry.rope_width, RecordFormatName(batch.format), seed);
  constexpr uint32_t kLayers = 2;
  std::mt19937_64 random(seed);
  TestStore store(geometry, batch.format, kLayers, 64, seed);
  for (uint32_t tokens : {1u, 63u, 64u, 65u, 300u, batch.longest_chunk_tokens}) {
    store.AddChunk(tokens);
  }
  const bool any_scale = batch.format == RecordFormat::kFp8 && !batch.round_scales;
  if (batch.format == RecordFormat::kFp8 && batch.round_scales) RoundScales(store, kLayers);
  const Tolerance& tolerance = any_scale ? Tested().any_scale_tolerance : Tested().tolerance;

  std::vector<TestProblem> problems;
  for (uint32_t i = 0; i < batch.problems; ++i) {
    problems.push_back(RandomProblem(store, kLayers, batch.max_heads, 6, random));
    problems.back().scale *= Tested().scale_factor;
    REQUIRE(ValidateProblem(problems.back().View(), geometry).ok());
  }
  std::vector<TestProblem> alone = problems;

  const RunningBackend backend = BackendOver(store);
  RequireOk(Run(*backend, problems));
  for (size_t i = 0; i < problems.size(); ++i) {
    CAPTURE(i);
    RequireClose(store, problems[i], tolerance);
    REQUIRE(RunOne(*backend, alone[i]).ok());
    if (Tested().same_bits_in_any_batch) {
      REQUIRE(SameBits(alone[i], problems[i]));
    } else {
      RequireClose(store, alone[i], tolerance);
    }
  }
  for (size_t configuration = 0; configuration < Tested().configurations.size(); ++configuration) {
    CAPTURE(configuration);
    std::vector<TestProblem> again = problems;
    for (TestProblem& problem : again) problem.PoisonOutputs(geometry);
    const RunningBackend other = Tested().configurations[configuration](store);
    RequireOk(Run(*other, again));
    for (size_t i = 0; i < problems.size(); ++i) REQUIRE(SameBits(again[i], problems[i]));
  }
}

}  // namespace latentd
