// Rotary position embedding as arithmetic: what a model's parameters say about the angle of each pair
// of rope values, and the rotation that takes a key from the position it was made for to another.
//
// A key of position p has its pair i rotated by p * frequency(i), so rotating it again by
// d * frequency(i) makes it the key of position p + d. That second rotation is pure, also under
// YaRN: the amplitude that mscale puts on cosines and sines is in the values already, and a rotation
// carries it along. Attention depends on differences of positions only: rotating a query by -d gives
// the logits that rotating the keys by d would (docs/re-adaptation.md).
//
// Values and pure functions: any thread.
#ifndef LATENTD_KERNELS_ROPE_H_
#define LATENTD_KERNELS_ROPE_H_

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/rotation.h"

namespace latentd {

// What a model says of its rope part.
struct RopeSpec {
  uint32_t width = 64;  // rope values of a row; 0: the model has none
  RopePairs pairs = RopePairs::kInterleaved;
  double theta = 10000;
  double yarn_factor = 1;  // 1: no YaRN; what follows then says nothing
  uint32_t original_context = 0;
  double yarn_beta_fast = 32;
  double yarn_beta_slow = 1;
};

// From here on fp32, in which models count, no longer tells neighbouring positions apart.
inline constexpr int64_t kMaxPositions = int64_t{1} << 24;

// How many positions the model has: the context that YaRN stretches to, else kMaxPositions.
int64_t PositionsOf(const RopeSpec& spec);

// Whether rows can be shifted so far. FAILED_PRECONDITION: the model has no rope values.
// INVALID_ARGUMENT names a parameter that makes no rotation. OUT_OF_RANGE: beyond the positions that
// the model has, in either direction.
absl::Status CheckShift(const RopeSpec& spec, int64_t shift);

class Rope {
 public:
  // Errors are those of CheckShift.
  static absl::StatusOr<Rope> Make(const RopeSpec& spec);

  // Radians a position, of each pair [width / 2]: DeepSeek's formulas, each step rounded to fp32 as
  // in the models' own code. Values of theirs that differ in the last bit or two are of another
  // library's pow.
  std::span<const float> frequencies() const { return frequencies_; }

  // Angles in fp64, so that the fp32 cosines and sines are right to their last bit at any shift.
  // OUT_OF_RANGE as CheckShift has it.
  absl::StatusOr<Rotation> RotationBy(int64_t shift) const;

 private:
  Rope(const RopeSpec& spec, std::vector<float> frequencies, int64_t positions)
      : pairs_(spec.pairs), frequencies_(std::move(frequencies)), positions_(positions) {}

  RopePairs pairs_;
  std::vector<float> frequencies_;
  int64_t positions_;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_ROPE_H_
