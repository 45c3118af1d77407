// `ComputeTable` says how long a device takes to attend: µs of one batch over a grid of rows ×
// tokens, for one record format and one regime. Between the points of the grid it is bilinear in
// rows and tokens, which is exact for fixed + a * rows + b * tokens + c * rows * tokens, the shape
// of attention between two neighbouring points. Below the grid the first point holds (a launch
// takes what it takes); beyond, time grows in proportion, which is not less than what the device
// needs. So it is monotone in rows and in tokens, continuous and positive everywhere.
//
// Values without heap; any thread.
#ifndef LATENTD_ROUTING_COMPUTE_TABLE_H_
#define LATENTD_ROUTING_COMPUTE_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"

namespace latentd {

inline constexpr size_t kMaxTablePoints = 16;  // on each axis
// What a table may say. No device attends faster than the first bound: it is 30 times what one H100
// does (642 TFLOP/s at 2 * (576 + 512) operations for each row and token).
inline constexpr double kLeastUsPerRowToken = 1e-7;
inline constexpr double kLeastBatchUs = 0.1;
inline constexpr double kMostBatchUs = 1e8;

// `kLatency`: the batch alone on the device, from handing it over to its end. `kThroughput`: the
// same while other requesters' batches keep the device busy.
enum class ComputeRegime : uint8_t { kLatency = 0, kThroughput = 1 };

// A table at one number of rows, set by ComputeTable::AtRows; `tokens` is the table's own.
struct ComputeCurve {
  const double* tokens;  // kMaxTablePoints, +inf after the last
  std::array<double, kMaxTablePoints> us;
  size_t points;

  double UsAt(double at_tokens) const {
    // Counting all of them takes no branch, where a search is mispredicted more often than not.
    size_t i = 0;
    for (size_t k = 0; k < kMaxTablePoints; ++k) i += tokens[k] < at_tokens ? 1 : 0;
    if (i == 0) return us[0];
    if (i == points) return us[i - 1] * (at_tokens / tokens[i - 1]);
    const double share = (at_tokens - tokens[i - 1]) / (tokens[i] - tokens[i - 1]);
    return us[i - 1] + share * (us[i] - us[i - 1]);
  }
};

class ComputeTable {
 public:
  // 1 row, 1 token, kMostBatchUs: never a free device.
  ComputeTable();

  // `us` is [rows][tokens]. INVALID_ARGUMENT that names the point, its value and what is allowed:
  // axes must ascend from at least 1 with 1..kMaxTablePoints points, times must be within the
  // bounds above and must not fall as rows or tokens grow.
  static absl::StatusOr<ComputeTable> Make(std::span<const uint32_t> rows,
                                           std::span<const uint32_t> tokens,
                                           std::span<const float> us);

  std::span<const uint32_t> rows() const { return {rows_.data(), row_points_}; }
  std::span<const uint32_t> tokens() const { return {tokens_.data(), token_points_}; }
  float us(size_t row_point, size_t token_point) const { return us_[row_point][token_point]; }

  // The curve borrows from the table.
  void AtRows(double rows, ComputeCurve& curve) const;
  double UsAt(double rows, double tokens) const;

 private:
  size_t row_points_ = 1;
  size_t token_points_ = 1;
  std::array<uint32_t, kMaxTablePoints> rows_ = {1};
  std::array<uint32_t, kMaxTablePoints> tokens_ = {1};
  std::array<double, kMaxTablePoints> tokens_as_doubles_;  // +inf after the last
  std::array<std::array<float, kMaxTablePoints>, kMaxTablePoints> us_ = {{{{kMostBatchUs}}}};
};

}  // namespace latentd

#endif  // LATENTD_ROUTING_COMPUTE_TABLE_H_
