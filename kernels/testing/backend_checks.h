// The steps that tests of backends share, and what a test says of the backend that it is about.
//
// A backend's test depends on :backend_test_cases, whose cases then are part of it, defines
// Tested(), and adds the cases that only this backend needs. One thread.
#ifndef LATENTD_KERNELS_TESTING_BACKEND_CHECKS_H_
#define LATENTD_KERNELS_TESTING_BACKEND_CHECKS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/mla.h"
#include "kernels/testing/test_problem.h"
#include "kernels/testing/test_store.h"

namespace latentd {

inline constexpr Geometry kUsualGeometry{512, 64};
inline constexpr Geometry kTinyGeometry{8, 4};

// A backend over a store's records, and what must outlive it.
struct RunningBackend {
  std::shared_ptr<void> memory;  // the backend's copy of the records, if it needs one
  std::unique_ptr<Backend> backend;

  Backend& operator*() const { return *backend; }
  Backend* operator->() const { return backend.get(); }
};

// How far a row may be from fp64. `out` is relative to the row's norm and before its values are
// rounded to bf16, which adds up to kBf16Rounding.
struct Tolerance {
  double out;
  double lse;
};
inline constexpr double kBf16Rounding = 4e-3;

struct TestedBackend {
  // Each makes the backend over a store, with max_in_flight 3, in another configuration; all of
  // them must give the same bits. The first is the one that most cases use.
  std::vector<std::function<RunningBackend(const TestStore&)>> configurations;
  Tolerance tolerance;
  // For fp8 records whose scales are not powers of two.
  Tolerance any_scale_tolerance;
  // Random problems' scales are at most 0.3 times this. At 0.3 one token in a thousand decides, and
  // its logit's rounding is all that one sees.
  float scale_factor = 1;
  // A problem has the same bits alone and in any batch.
  bool same_bits_in_any_batch = false;
};
// Defined by the test.
const TestedBackend& Tested();

// Tested() in its first configuration.
RunningBackend BackendOver(const TestStore& store);

// Submits one batch and polls until it is back.
BatchResult Run(Backend& backend, std::vector<TestProblem>& problems);
absl::Status RunOne(Backend& backend, TestProblem& problem);

void RequireOk(const BatchResult& result);
bool SameBits(const TestProblem& a, const TestProblem& b);
void RequireClose(const TestStore& store, TestProblem& problem,
                  const Tolerance& tolerance = Tested().tolerance);

TestProblem OneGroup(const TestStore& store, uint32_t heads, uint32_t tokens, bool causal,
                     const std::vector<Segment>& segments, uint64_t seed = 1,
                     OutFormat format = OutFormat::kFp32, float scale = 0.1f);

// Makes an fp8 store's scales powers of two, as our own quantiser does.
void RoundScales(TestStore& store, uint32_t layers);

// A random batch over a store of random chunks, together, alone and in every configuration.
struct RandomBatch {
  Geometry geometry = kUsualGeometry;
  RecordFormat format = RecordFormat::kBf16;
  uint32_t max_heads = 20;
  uint32_t problems = 4;
  bool round_scales = true;
  uint32_t longest_chunk_tokens = 700;
};
void CheckRandomBatch(const RandomBatch& batch, uint64_t seed);

}  // namespace latentd

#endif  // LATENTD_KERNELS_TESTING_BACKEND_CHECKS_H_
