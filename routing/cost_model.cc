#include "routing/cost_model.h"

#include <algorithm>

namespace latentd {

bool ComputePricer::Fill(const TimedTable& timed, double rows, ComputeCurve& curve) {
  const bool stale = timed.state == ConstantState::kStale;
  if (!stale && timed.state != ConstantState::kMeasured) return false;
  timed.table.AtRows(rows, curve);
  if (stale)
    for (size_t i = 0; i < curve.points; ++i) curve.us[i] *= kStaleFactor;
  return true;
}

void ComputePricer::Reset(const NodeConstants& node, RecordFormat format, double rows) {
  rows_ = rows;
  has_alone_ = Fill(node.Compute(format, ComputeRegime::kLatency), rows, alone_);
  floor_us_ =
      has_alone_ ? node.Compute(format, ComputeRegime::kLatency).table.us(0, 0) : kAssumedBatchUs;
  has_busy_ = Fill(node.Compute(format, ComputeRegime::kThroughput), rows, busy_);
}

double ComputePricer::Us(double tokens, double queue_us) const {
  const double alone =
      has_alone_ ? alone_.UsAt(tokens) : kAssumedBatchUs + kAssumedUsPerRowToken * rows_ * tokens;
  if (!has_busy_ || queue_us <= 0) return alone;
  const double busy = busy_.UsAt(tokens);
  if (busy <= alone) return alone;
  return alone + (busy - alone) * (queue_us / (queue_us + floor_us_));
}

void RoutePricer::Reset(const NodeConstants& node, const PairConstants& pair,
                        const LoadReport& load, double merge_us, const Geometry& geometry,
                        RecordFormat format, double rows) {
  compute_.Reset(node, format, rows);
  const double out_us_per_byte = 1 / pair.out_bytes_per_us.Usable();
  probe_us_ = pair.probe_us.Usable();
  transfer_us_ = out_us_per_byte * (kRouteRequestBytes + RowBytes(geometry) * rows);
  chunk_us_ = out_us_per_byte * kRouteChunkBytes;
  queue_us_ = QueueUs(load);
  return_us_ = (kRouteReplyBytes + PartialBytes(geometry) * rows) / pair.in_bytes_per_us.Usable();
  merge_us_ = merge_us * rows;
  fixed_us_ = probe_us_ + transfer_us_ + queue_us_ + return_us_;
}

RouteTerms RoutePricer::Terms(double tokens, double chunks) const {
  return {.probe_us = probe_us_,
          .transfer_us = transfer_us_ + chunk_us_ * chunks,
          .queue_us = queue_us_,
          .compute_us = compute_.Us(tokens, queue_us_),
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
