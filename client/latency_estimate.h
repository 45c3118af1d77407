// `LatencyEstimate` knows quantiles of a stream of durations: counts in buckets that are an eighth
// of an octave wide, halved now and then so that what was long ago fades. Pure; not synchronised.
#ifndef LATENTD_CLIENT_LATENCY_ESTIMATE_H_
#define LATENTD_CLIENT_LATENCY_ESTIMATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace latentd {

class LatencyEstimate {
 public:
  // Fewer tell nothing.
  static constexpr uint32_t kLeastSamples = 32;
  // Counts are halved when they come to this.
  static constexpr uint32_t kMostSamples = 1024;

  void Add(uint64_t ns);
  // The upper end of the bucket that holds the quantile: at least the true one, and at most an
  // eighth more (but for what is under 1 us, told as 1 us, and over a minute). None while too
  // little is known. REQUIRES: 0 <= q <= 1.
  std::optional<uint64_t> QuantileNs(double q) const;

 private:
  static constexpr int kFirstBit = 10;  // durations under 2^10 ns share a bucket
  static constexpr int kLastBit = 36;   // those of 2^36 ns and more as well
  static constexpr size_t kBuckets = (kLastBit - kFirstBit) * 8 + 2;

  static size_t BucketOf(uint64_t ns);
  static uint64_t UpperEndNs(size_t bucket);

  std::array<float, kBuckets> counts_{};  // fractions, once halved
  float total_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_LATENCY_ESTIMATE_H_
