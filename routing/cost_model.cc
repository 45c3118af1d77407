#include "routing/cost_model.h"

#include <algorithm>

namespace latentd {

namespace {

bool IsKnown(const TimedTable& timed) {
  return timed.state == ConstantState::kMeasured || timed.state == ConstantState::kStale;
}

void Fill(const TimedTable& timed, double rows, ComputeCurve& curve) {
  timed.table.AtRows(rows, curve);
  if (timed.state != ConstantState::kStale) return;
  for (size_t i = 0; i < curve.points; ++i) curve.us[i] *= kStaleFactor;
}

}  // namespace

void ComputePricer::Reset(const NodeConstants& node, RecordFormat format, double rows,
                          double queue_us) {
  rows_ = rows;
  const TimedTable& alone = node.Compute(format, ComputeRegime::kLatency);
  known_ = IsKnown(alone);
  if (!known_) return;
  Fill(alone, rows, curve_);
  const TimedTable& busy = node.Compute(format, ComputeRegime::kThroughput);
  if (queue_us <= 0 || !IsKnown(busy)) return;
  ComputeCurve busy_curve;
  Fill(busy, rows, busy_curve);
  const double share = queue_us / (queue_us + alone.table.us(0, 0));
  const std::span<const uint32_t> tokens = alone.table.tokens();
  const std::span<const uint32_t> busy_tokens = busy.table.tokens();
  const bool same_points =
      std::equal(tokens.begin(), tokens.end(), busy_tokens.begin(), busy_tokens.end());
  if (!same_points) {
    std::array<double, kMaxTablePoints> there = {};
    for (size_t i = 0; i < curve_.points; ++i) there[i] = busy_curve.UsAt(curve_.tokens[i]);
    busy_curve.us = there;
  }
  for (size_t i = 0; i < kMaxTablePoints; ++i)
    curve_.us[i] += share * std::max(0.0, busy_curve.us[i] - curve_.us[i]);
}

void RoutePricer::Reset(const NodeConstants& node, const PairConstants& pair,
                        const HolderLoad& load, double merge_us, const Geometry& geometry,
                        RecordFormat format, double rows) {
  queue_us_ = QueueUs(load);
  compute_.Reset(node, format, rows, queue_us_);
  const double out_us_per_byte = 1 / pair.out_bytes_per_us.Usable();
  probe_us_ = pair.probe_us.Usable();
  transfer_us_ = out_us_per_byte * (kRouteRequestBytes + RowBytes(geometry) * rows);
  chunk_us_ = out_us_per_byte * kRouteChunkBytes;
  return_us_ = (kRouteReplyBytes + PartialBytes(geometry) * rows) / pair.in_bytes_per_us.Usable();
  merge_us_ = merge_us * rows;
  fixed_us_ = probe_us_ + transfer_us_ + queue_us_ + return_us_;
}

RouteTerms RoutePricer::Terms(double tokens, double chunks) const {
  return {.probe_us = probe_us_,
          .transfer_us = transfer_us_ + chunk_us_ * chunks,
          .queue_us = queue_us_,
          .compute_us = compute_.Us(tokens),
          .return_us = return_us_,
          .merge_us = merge_us_};
}

FetchTerms PriceFetch(const PairConstants& pair, const RequesterConstants& requester,
                      const FetchShape& shape) {
  const double records = static_cast<double>(shape.tokens) * shape.layers;
  const double bytes = records * static_cast<double>(shape.record_bytes);
  FetchTerms terms;
  terms.handshake_us = pair.handshake_us.Usable();
  terms.transfer_us = bytes / pair.in_bytes_per_us.Usable();
  const double more_ranges = static_cast<double>(std::max<uint64_t>(shape.ranges, 1) - 1);
  terms.ranges_us = more_ranges * pair.range_us.Usable();
  if (pair.staged_fetch) terms.copy_us = bytes / requester.copy_bytes_per_us.Usable();
  if (shape.shifted) terms.splice_us = records / requester.splice_records_per_us.Usable();
  return terms;
}

double PricePrefillUs(const RequesterConstants& requester, uint64_t tokens) {
  return requester.prefill_us_per_token.Usable() * static_cast<double>(tokens);
}

}  // namespace latentd
