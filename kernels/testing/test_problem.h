// Problems with everything that they point to, for tests of backends, and the comparison with the
// reference.
//
// Values; one thread.
#ifndef LATENTD_KERNELS_TESTING_TEST_PROBLEM_H_
#define LATENTD_KERNELS_TESTING_TEST_PROBLEM_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/mla.h"
#include "kernels/testing/test_store.h"

namespace latentd {

// A problem and its buffers. Outputs start poisoned with NaN, so that one never written is seen.
struct TestProblem {
  uint32_t layer = 0;
  uint32_t heads = 1;
  float scale = 0.1f;
  OutFormat out_format = OutFormat::kBf16;
  std::vector<Group> groups;
  std::vector<Segment> segments;
  std::vector<Bf16> rows;
  std::vector<std::byte> out;
  std::vector<float> lse;

  uint32_t tokens() const;
  // Adds a group over `attended`, after those that are there.
  void AddGroup(uint32_t tokens, bool causal, const std::vector<Segment>& attended);
  // Fills rows with random queries and poisons the outputs. Call when groups and heads are final.
  void Fill(const Geometry& geometry, std::mt19937_64& random);
  void PoisonOutputs(const Geometry& geometry);
  // A view of all of it, valid until something is changed.
  Problem View();
  // Output value i as fp32.
  float Out(uint64_t i) const;
};

// Any valid problem over the store's chunks: groups, causal or not, with 0 to 4 segments of 0 to
// all tokens each.
TestProblem RandomProblem(const TestStore& store, uint32_t layers, uint32_t max_heads,
                          uint32_t max_tokens, std::mt19937_64& random);

// How far results are from the fp64 reference.
struct Error {
  double out = 0;  // the worst row's |out - reference| / |reference|, in L2
  double lse = 0;  // the worst row's |lse - reference|
  // The first row that is wrong in kind, not in degree: a NaN, an infinity, a nonempty answer of an
  // empty row.
  std::string defect;
};

Error CompareWithReference(const TestStore& store, TestProblem& problem);

}  // namespace latentd

#endif  // LATENTD_KERNELS_TESTING_TEST_PROBLEM_H_
