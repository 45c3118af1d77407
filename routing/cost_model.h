// What a path to a holder's records costs, in µs, from measured constants (cost_constants.h):
//   route   send the rows to the holder, every layer of every step
//   fetch   bring the records to the requester, once
//   local   compute the records anew at the requester, once
// fetch and local then attend at the requester, every layer of every step.
//
// Formulas are those of docs/design.md §6, whose five terms (probe, transfer, compute, return,
// merge) come from the study quoted in its §8: there they predict the batched round trip within
// 7 % from 512 rows on. What the study has not got, and is ours: the queue, tables instead of one
// compute rate, ranges and staging of a fetch. docs/cost-model.md says what was measured.
//
// Values and pure functions, no heap; any thread.
#ifndef LATENTD_ROUTING_COST_MODEL_H_
#define LATENTD_ROUTING_COST_MODEL_H_

#include <cstdint>

#include "kernels/mla.h"
#include "routing/cost_constants.h"

namespace latentd {

// Bytes of a request and its reply beside rows and partials: transport/wire.h's RequestHeader 96,
// AttendBody 24, one GroupEntry 24, a ChunkEntry 24 for each chunk; ReplyHeader 80.
inline constexpr uint64_t kRouteRequestBytes = 96 + 24 + 24;
inline constexpr uint64_t kRouteChunkBytes = 24;
inline constexpr uint64_t kRouteReplyBytes = 80;

// A row: latent and rope values in bf16, 1152 B at 512 + 64.
constexpr uint64_t RowBytes(const Geometry& geometry) { return 2 * uint64_t{geometry.row_width()}; }
// A partial: latent values in bf16 and an fp32 log-sum-exp, 512 * 2 + 4 = 1028 B.
constexpr uint64_t PartialBytes(const Geometry& geometry) {
  return 2 * uint64_t{geometry.latent_width} + sizeof(float);
}

// µs of a device's batches at one number of rows and one queue, in whatever state its tables are.
// Worked out into one curve per plan, so that a price takes a few ns; borrows from `node`.
//   alone + (busy - alone) * queue / (queue + floor)
// where alone and busy are the tables of the latency and the throughput regime (busy not below
// alone; without its table, alone) and floor is the quickest batch of the first: an empty queue
// says that the device is idle, one much longer than a batch that it never is. Stale tables are
// kStaleFactor dearer; without one, kAssumedBatchUs + kAssumedUsPerRowToken * rows * tokens.
class ComputePricer {
 public:
  ComputePricer() = default;  // uninitialised: planners keep arrays of these
  ComputePricer(const NodeConstants& node, RecordFormat format, double rows, double queue_us) {
    Reset(node, format, rows, queue_us);
  }
  void Reset(const NodeConstants& node, RecordFormat format, double rows, double queue_us);

  // A batch whose every row attends `tokens` records.
  double Us(double tokens) const {
    return known_ ? curve_.UsAt(tokens) : kAssumedBatchUs + kAssumedUsPerRowToken * rows_ * tokens;
  }

 private:
  ComputeCurve curve_;
  double rows_;
  bool known_;
};

// One routed round trip in one layer.
//   probe    = the pair's probe [µs]
//   transfer = (kRouteRequestBytes + kRouteChunkBytes * chunks + RowBytes * rows) / out bandwidth
//   queue    = QueueUs(load report) [µs]
//   compute  = ComputePricer's, of rows, tokens and queue [µs]
//   return   = (kRouteReplyBytes + PartialBytes * rows) / in bandwidth
//   merge    = the requester's merge [µs/row] * rows
// Rows are (token, head) rows. Holders work in parallel, so a layer takes the longest RoundTripUs,
// and then the merge of each, one after the other.
struct RouteTerms {
  double probe_us = 0;
  double transfer_us = 0;
  double queue_us = 0;
  double compute_us = 0;
  double return_us = 0;
  double merge_us = 0;

  double RoundTripUs() const { return probe_us + transfer_us + queue_us + compute_us + return_us; }
};

class RoutePricer {
 public:
  RoutePricer() = default;  // uninitialised, as ComputePricer
  void Reset(const NodeConstants& node, const PairConstants& pair, const HolderLoad& load,
             double merge_us, const Geometry& geometry, RecordFormat format, double rows);

  double RoundTripUs(double tokens, double chunks) const {
    return fixed_us_ + chunk_us_ * chunks + compute_.Us(tokens);
  }
  RouteTerms Terms(double tokens, double chunks) const;

 private:
  ComputePricer compute_;
  double probe_us_;
  double transfer_us_;  // without chunks
  double chunk_us_;
  double queue_us_;
  double return_us_;
  double merge_us_;
  double fixed_us_;  // all that does not depend on tokens and chunks
};

// What is fetched from one holder, all layers.
struct FetchShape {
  uint64_t tokens = 0;
  uint32_t layers = 0;
  uint64_t record_bytes = 0;  // 1152 bf16, 656 fp8 at 512 + 64
  uint64_t ranges = 1;        // runs of consecutive bytes: 1 contiguous, more scattered
  bool shifted = false;       // used at another position than it was made for
};

// One fetch from one holder.
//   handshake = the pair's handshake [µs], for each holder
//   transfer  = tokens * layers * record bytes / in bandwidth
//   ranges    = (ranges - 1) * the pair's range [µs]
//   copy      = staged: the same bytes / the requester's copy rate
//   splice    = shifted: tokens * layers / the requester's splice rate [records/µs]
// Fetches from several holders share the requester's link and processor: their times add up.
struct FetchTerms {
  double handshake_us = 0;
  double transfer_us = 0;
  double ranges_us = 0;
  double copy_us = 0;
  double splice_us = 0;

  double TotalUs() const { return handshake_us + transfer_us + ranges_us + copy_us + splice_us; }
};

FetchTerms PriceFetch(const PairConstants& pair, const RequesterConstants& requester,
                      const FetchShape& shape);

// prefill [µs/token, all layers] * tokens
double PricePrefillUs(const RequesterConstants& requester, uint64_t tokens);

}  // namespace latentd

#endif  // LATENTD_ROUTING_COST_MODEL_H_
