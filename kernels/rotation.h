// The turn of rope values by one number of positions: what rope.h computes and rotate.h and
// cuda/splice.h apply.
//
// Values: any thread.
#ifndef LATENTD_KERNELS_ROTATION_H_
#define LATENTD_KERNELS_ROTATION_H_

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace latentd {

// Which rope values make a pair.
enum class RopePairs : uint8_t {
  kInterleaved,  // (0, 1), (2, 3), ...
  kHalves,       // (0, width / 2), (1, width / 2 + 1), ...
};

// `Rotation` takes pair i, (x, y), to (x cos - y sin, x sin + y cos) by its own angle.
class Rotation {
 public:
  // Changes nothing, to the bit.
  Rotation() = default;
  // REQUIRES: as many sines as cosines.
  Rotation(RopePairs pairs, std::vector<float> cosines, std::vector<float> sines)
      : pairs_(pairs), cosines_(std::move(cosines)), sines_(std::move(sines)) {}

  bool identity() const { return cosines_.empty(); }
  RopePairs pairs() const { return pairs_; }
  std::span<const float> cosines() const { return cosines_; }  // [pairs]
  std::span<const float> sines() const { return sines_; }

 private:
  RopePairs pairs_ = RopePairs::kInterleaved;
  std::vector<float> cosines_;
  std::vector<float> sines_;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_ROTATION_H_
