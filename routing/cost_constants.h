// The measured constants that prices are made of: of a node (how long its device attends), of a
// pair of nodes (what its link costs), of a requester (merging, re-adaptation, prefill). Each says
// in which state it is, and answers with a usable value in every state: never zero, never NaN, and
// the less is known the dearer, so that a path nobody measured does not win over one that was.
//
// Plain values without heap or pointers; any thread. costs_proto.h takes them to and from the control
// plane's messages. States do not travel: the reader tells stale from the age and quarantined by
// `Vet`.
#ifndef LATENTD_ROUTING_COST_CONSTANTS_H_
#define LATENTD_ROUTING_COST_CONSTANTS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/mla.h"
#include "routing/compute_table.h"

namespace latentd {

// | state       | set by                                   | the usable value                     |
// |-------------|------------------------------------------|--------------------------------------|
// | missing     | nobody measured it                       | the kind's `assumed`                 |
// | measured    | calibration                              | the value                            |
// | stale       | who sees its age, or its node restarting | the value, kStaleFactor times dearer |
// | quarantined | `Vet`, `SetTable`: it was out of range    | the kind's `assumed`                 |
enum class ConstantState : uint8_t { kMissing, kMeasured, kStale, kQuarantined };

absl::string_view ConstantStateName(ConstantState state);

inline constexpr double kStaleFactor = 1.5;

enum class ConstantKind : uint8_t {
  kProbe,       // µs of a round trip without bytes
  kBandwidth,   // bytes/µs one way
  kHandshake,   // µs before a holder's first byte of a fetch: pins, keys, the ask
  kRange,       // µs that each run of bytes of a fetch takes beside its bytes
  kMerge,       // µs to merge one row's partial of one holder
  kSpliceRate,  // records/µs (a record: one token in one layer) re-adapted to another position
  kCopyRate,    // bytes/µs copied within the requester's memory
  kPrefill,     // µs for a token's records of all layers to be computed anew
  kQueue,       // µs a request waits at a holder before its batch starts
  kRetryAfter,  // µs after which a holder that refuses may be asked again
};

struct ConstantRule {
  const char* name;
  const char* unit;
  double least;  // what a peer may say: what lies outside is no measurement
  double most;
  double assumed;  // slow for any machine this runs on, yet within a few times of the slowest
  bool is_rate;    // more of it is cheaper
};

// Ranges: memory of today's devices moves below 10^7 bytes/µs (10 TB/s), no two processes exchange
// a message in 0.05 µs, and what takes a quarter of a minute is a fault and not a price.
inline constexpr std::array<ConstantRule, 10> kConstantRules = {{
    {"probe", "us", 0.05, 1e7, 1000, false},
    {"bandwidth", "bytes/us", 0.1, 1e7, 100, true},
    {"handshake", "us", 0.05, 1e7, 2000, false},
    {"range", "us", 1e-4, 1e6, 20, false},
    {"merge", "us/row", 1e-6, 1e4, 2, false},
    {"splice", "records/us", 1e-3, 1e7, 10, true},
    {"copy", "bytes/us", 0.1, 1e7, 500, true},
    {"prefill", "us/token", 1e-3, 1e8, 1e4, false},
    {"queue", "us", 0, 1.5e7, 100, false},
    {"retry_after", "us", 1, 1.5e7, 5000, false},
}};

constexpr const ConstantRule& RuleOf(ConstantKind kind) {
  return kConstantRules[static_cast<size_t>(kind)];
}

template <ConstantKind Kind>
struct Constant {
  double value = 0;
  ConstantState state = ConstantState::kMissing;

  // A measured value out of its range counts as quarantined, also where nobody called Vet.
  constexpr double Usable() const {
    const ConstantRule& rule = RuleOf(Kind);
    const bool known = state == ConstantState::kMeasured || state == ConstantState::kStale;
    if (!known || !(value >= rule.least && value <= rule.most)) return rule.assumed;
    if (state == ConstantState::kMeasured) return value;
    return rule.is_rate ? value / kStaleFactor : value * kStaleFactor;
  }
};

template <ConstantKind Kind>
constexpr Constant<Kind> MeasuredConstant(double value) {
  return {value, ConstantState::kMeasured};
}

// What a device that nobody timed is taken to need for a batch: a CPU core at 40 GFLOP/s.
inline constexpr double kAssumedBatchUs = 500;
inline constexpr double kAssumedUsPerRowToken = 0.05;

struct TimedTable {
  ConstantState state = ConstantState::kMissing;
  ComputeTable table;
};

inline constexpr size_t kRecordFormats = 2;
inline constexpr size_t kComputeRegimes = 2;

struct NodeConstants {
  std::array<std::array<TimedTable, kComputeRegimes>, kRecordFormats> compute;

  const TimedTable& Compute(RecordFormat format, ComputeRegime regime) const {
    const bool fp8 = format == RecordFormat::kFp8;
    return compute[fp8 ? 1 : 0][static_cast<size_t>(regime)];
  }
  TimedTable& Compute(RecordFormat format, ComputeRegime regime) {
    const bool fp8 = format == RecordFormat::kFp8;
    return compute[fp8 ? 1 : 0][static_cast<size_t>(regime)];
  }
};

// Of a requester and one holder, over the transport that queries take. `out` is from the requester.
struct PairConstants {
  Constant<ConstantKind::kProbe> probe_us;
  Constant<ConstantKind::kBandwidth> out_bytes_per_us;
  Constant<ConstantKind::kBandwidth> in_bytes_per_us;
  Constant<ConstantKind::kHandshake> handshake_us;
  Constant<ConstantKind::kRange> range_us;
  // Fetched records land in a buffer and are copied into pages; false: straight into pages.
  bool staged_fetch = true;
};

struct RequesterConstants {
  Constant<ConstantKind::kMerge> merge_us;
  Constant<ConstantKind::kSpliceRate> splice_records_per_us;
  Constant<ConstantKind::kCopyRate> copy_bytes_per_us;
  Constant<ConstantKind::kPrefill> prefill_us_per_token;
  NodeConstants node;  // how it attends what it has itself
};

// What a holder last said of its load.
struct HolderLoad {
  Constant<ConstantKind::kQueue> queue_us;
  bool saturated = false;  // it refuses requests beyond its bound
  Constant<ConstantKind::kRetryAfter> retry_after_us;
};

// The µs a request waits at the holder: what the queue was, and not less than the retry hint where
// it refuses.
double QueueUs(const HolderLoad& load);

// Puts every constant that is outside its kind's range into quarantine, with the nearest value
// allowed in its place (the least where it is NaN). OK, or INVALID_ARGUMENT that names each:
// "node-b: constant in_bandwidth is -3 bytes/us, allowed 0.1..1e+07". `owner` is whose they are.
absl::Status Vet(absl::string_view owner, PairConstants& constants);
absl::Status Vet(absl::string_view owner, RequesterConstants& constants);
absl::Status Vet(absl::string_view owner, HolderLoad& load);

// The same for a table, from the points as they came: measured, or in quarantine with INVALID_ARGUMENT
// that names owner, format, regime and point.
absl::Status SetTable(absl::string_view owner, RecordFormat format, ComputeRegime regime,
                      std::span<const uint32_t> rows, std::span<const uint32_t> tokens,
                      std::span<const float> us, NodeConstants& constants);

// Measured becomes stale; for constants older than their owner's measuring period, and for those
// of a node that has a new generation.
void MarkStale(NodeConstants& constants);
void MarkStale(PairConstants& constants);
void MarkStale(HolderLoad& load);

}  // namespace latentd

#endif  // LATENTD_ROUTING_COST_CONSTANTS_H_
