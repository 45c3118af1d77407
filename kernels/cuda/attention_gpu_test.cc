// The CUDA backend: what every backend promises (testing/backend_test_cases.cc) and more. Needs a
// GPU of compute capability 9.0: run by tests/gpu/run.sh, not by `bazel test`.
#include <cuda_runtime.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/memory.h"
#include "kernels/testing/backend_checks.h"

namespace latentd {

namespace {

// A store's copy on the device, and a backend over it.
RunningBackend OnDevice(const TestStore& store) {
  const CacheView host = store.view();
  const uint64_t bytes = store.pages() * host.page_bytes;
  auto arena = std::make_shared<DeviceMemory>();
  REQUIRE(arena->Grow(bytes).ok());
  REQUIRE(cudaMemcpy(arena->data(), host.arena, bytes, cudaMemcpyHostToDevice) == cudaSuccess);
  auto backend = MakeCudaBackend({.geometry = store.geometry(),
                                  .format = store.format(),
                                  .cache = {arena->data(), host.page_bytes, host.layer_bytes},
                                  .pages = store.pages(),
                                  .max_in_flight = 3});
  INFO(backend.status().ToString());
  REQUIRE(backend.ok());
  return {.memory = std::move(arena), .backend = *std::move(backend)};
}

}  // namespace

const TestedBackend& Tested() {
  // fp8 records whose scales are no powers of two are rounded to bf16 before the products.
  static const TestedBackend tested{.configurations = {OnDevice},
                                    .tolerance = {4e-3, 1e-3},
                                    .any_scale_tolerance = {2e-2, 0.1},
                                    .scale_factor = 0.5f,
                                    .same_bits_in_any_batch = false};
  return tested;
}

namespace {

TEST_CASE("random batches of up to 128 heads and longer chunks agree with fp64") {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const uint32_t max_heads = seed % 2 ? 20 : 128;
    CheckRandomBatch({.max_heads = max_heads, .longest_chunk_tokens = 1300}, seed);
    CheckRandomBatch(
        {.format = RecordFormat::kFp8, .max_heads = max_heads, .longest_chunk_tokens = 1300}, seed);
  }
}

TEST_CASE("one query token's heads over one chunk, every head count and length that matters") {
  for (RecordFormat format : {RecordFormat::kBf16, RecordFormat::kFp8}) {
    TestStore store(kUsualGeometry, format, 1, 200, 5);
    const uint32_t chunk = store.AddChunk(8192);
    if (format == RecordFormat::kFp8) RoundScales(store, 1);
    const RunningBackend device = OnDevice(store);
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
  TestStore store(kUsualGeometry, RecordFormat::kBf16, 2, 64, 5);
  const uint32_t hot = store.AddChunk(700);
  const uint32_t own = store.AddChunk(100);
  const RunningBackend device = OnDevice(store);
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
  TestStore store(kUsualGeometry, RecordFormat::kBf16, 1, 300, 5);
  for (uint32_t i = 0; i < 8; ++i) store.AddChunk(300 - i);
  const RunningBackend device = OnDevice(store);
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

TEST_CASE("device and pinned memory are used in place") {
  TestStore store(kUsualGeometry, RecordFormat::kBf16, 1, 16, 5);
  const uint32_t chunk = store.AddChunk(700);
  const RunningBackend device = OnDevice(store);
  DeviceMemory device_rows;
  PinnedMemory pinned_rows;
  PinnedMemory out;
  // With full tiles, whose rows come by tensor copies, and without.
  for (uint32_t heads : {16u, 128u}) {
    for (bool pinned : {false, true}) {
      CAPTURE(heads, pinned);
      TestProblem problem = OneGroup(store, heads, 2, true, {{store.page_ids(chunk), 700, 0}});
      const uint64_t row_bytes = problem.rows.size() * sizeof(Bf16);
      REQUIRE(device_rows.Grow(row_bytes).ok());
      REQUIRE(pinned_rows.Grow(row_bytes).ok());
      REQUIRE(out.Grow(problem.out.size() + problem.lse.size() * sizeof(float)).ok());
      std::byte* rows = pinned ? pinned_rows.data() : device_rows.data();
      REQUIRE(cudaMemcpy(rows, problem.rows.data(), row_bytes, cudaMemcpyDefault) == cudaSuccess);
      Problem view = problem.View();
      view.rows = reinterpret_cast<const Bf16*>(rows);
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
  }
}

TEST_CASE("what cannot be a backend is refused with a reason") {
  CudaBackendOptions options;
  options.device = 1000;
  REQUIRE(MakeCudaBackend(options).status().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace latentd
