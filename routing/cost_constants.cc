#include "routing/cost_constants.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

class Vetting {
 public:
  explicit Vetting(absl::string_view owner) : owner_(owner) {}

  template <ConstantKind Kind>
  void Check(absl::string_view name, Constant<Kind>& constant) {
    const ConstantRule& rule = RuleOf(Kind);
    if (constant.state == ConstantState::kMissing ||
        constant.state == ConstantState::kQuarantined ||
        (constant.value >= rule.least && constant.value <= rule.most)) {
      return;
    }
    absl::StrAppend(&faults_, faults_.empty() ? "" : ", ", "constant ", name, " is ",
                    constant.value, " ", rule.unit, ", allowed ", rule.least, "..", rule.most);
    constant.value = constant.value > rule.most ? rule.most : rule.least;
    constant.state = ConstantState::kQuarantined;
  }

  absl::Status Result() const {
    if (faults_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(owner_, ": ", faults_));
  }

 private:
  absl::string_view owner_;
  std::string faults_;
};

void Age(ConstantState& state) {
  if (state == ConstantState::kMeasured) state = ConstantState::kStale;
}

}  // namespace

absl::string_view ConstantStateName(ConstantState state) {
  switch (state) {
    case ConstantState::kMissing:
      return "missing";
    case ConstantState::kMeasured:
      return "measured";
    case ConstantState::kStale:
      return "stale";
    case ConstantState::kQuarantined:
      return "quarantined";
  }
  return "unknown";
}

double QueueUs(const HolderLoad& load) {
  const double queue_us = load.queue_us.Usable();
  return load.saturated ? std::max(queue_us, load.retry_after_us.Usable()) : queue_us;
}

absl::Status Vet(absl::string_view owner, PairConstants& constants) {
  Vetting vetting(owner);
  vetting.Check("probe", constants.probe_us);
  vetting.Check("out_bandwidth", constants.out_bytes_per_us);
  vetting.Check("in_bandwidth", constants.in_bytes_per_us);
  vetting.Check("handshake", constants.handshake_us);
  vetting.Check("range", constants.range_us);
  return vetting.Result();
}

absl::Status Vet(absl::string_view owner, RequesterConstants& constants) {
  Vetting vetting(owner);
  vetting.Check("merge", constants.merge_us);
  vetting.Check("splice", constants.splice_records_per_us);
  vetting.Check("copy", constants.copy_bytes_per_us);
  vetting.Check("prefill", constants.prefill_us_per_token);
  return vetting.Result();
}

absl::Status Vet(absl::string_view owner, HolderLoad& load) {
  Vetting vetting(owner);
  vetting.Check("queue", load.queue_us);
  if (load.saturated) vetting.Check("retry_after", load.retry_after_us);
  return vetting.Result();
}

absl::Status SetTable(absl::string_view owner, RecordFormat format, ComputeRegime regime,
                      std::span<const uint32_t> rows, std::span<const uint32_t> tokens,
                      std::span<const float> us, NodeConstants& constants) {
  TimedTable& timed = constants.Compute(format, regime);
  auto table = ComputeTable::Make(rows, tokens, us);
  if (!table.ok()) {
    timed = {.state = ConstantState::kQuarantined, .table = {}};
    return absl::InvalidArgumentError(
        absl::StrCat(owner, ": ", std::string(RecordFormatName(format)), " ",
                     regime == ComputeRegime::kLatency ? "latency" : "throughput", ": ",
                     table.status().message()));
  }
  timed = {.state = ConstantState::kMeasured, .table = *table};
  return absl::OkStatus();
}

void MarkStale(NodeConstants& constants) {
  for (auto& format : constants.compute)
    for (TimedTable& timed : format) Age(timed.state);
}

void MarkStale(PairConstants& constants) {
  Age(constants.probe_us.state);
  Age(constants.out_bytes_per_us.state);
  Age(constants.in_bytes_per_us.state);
  Age(constants.handshake_us.state);
  Age(constants.range_us.state);
}

void MarkStale(HolderLoad& load) {
  Age(load.queue_us.state);
  Age(load.retry_after_us.state);
}

}  // namespace latentd
