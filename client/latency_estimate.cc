#include "client/latency_estimate.h"

#include <bit>

namespace latentd {

size_t LatencyEstimate::BucketOf(uint64_t ns) {
  const int top_bit = std::bit_width(ns) - 1;
  if (top_bit < kFirstBit) return 0;
  if (top_bit >= kLastBit) return kBuckets - 1;
  const uint64_t eighth = (ns >> (top_bit - 3)) & 7;
  return 1 + static_cast<size_t>(top_bit - kFirstBit) * 8 + eighth;
}

uint64_t LatencyEstimate::UpperEndNs(size_t bucket) {
  if (bucket == 0) return uint64_t{1} << kFirstBit;
  if (bucket == kBuckets - 1) return uint64_t{1} << kLastBit;
  const size_t octave = (bucket - 1) / 8 + kFirstBit;
  return (8 + (bucket - 1) % 8 + 1) << (octave - 3);
}

void LatencyEstimate::Add(uint64_t ns) {
  counts_[BucketOf(ns)] += 1;
  total_ += 1;
  if (total_ < kMostSamples) return;
  for (float& count : counts_) count /= 2;
  total_ /= 2;
}

std::optional<uint64_t> LatencyEstimate::QuantileNs(double q) const {
  if (total_ < kLeastSamples) return std::nullopt;
  const auto wanted = static_cast<float>(q) * total_;
  float below = 0;
  size_t last = 0;
  for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
    if (counts_[bucket] == 0) continue;
    below += counts_[bucket];
    last = bucket;
    if (below >= wanted) break;
  }
  return UpperEndNs(last);
}

}  // namespace latentd
