#include "tools/calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cost_view.h"
#include "routing/cost_model.h"
#include "routing/robust_stats.h"

namespace latentd {
namespace {

// A fetch is timed up to this share of a chunk's tokens: what is checked later lies between.
constexpr uint32_t kFetchedOfFour = 3;

void Append(std::vector<LinkSample>& to, const std::vector<LinkSample>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

absl::Status AddNode(AttendProbe& probe, uint32_t node, const CalibrationOptions& options,
                     NodeSamples& samples) {
  PairProbeOptions pair;
  pair.repeats = options.repeats;
  auto link = TimeLink(probe.client(), probe.holder(node), pair);
  if (!link.ok()) return link.status();
  Append(samples.link.out, link->out);
  Append(samples.link.in, link->in);
  const ChunkRange range = {.chunk = probe.chunk(node),
                            .layers = probe.options().layers,
                            .tokens = probe.options().most_tokens / 4 * kFetchedOfFour};
  auto fetch = TimeFetch(probe.client(), range, pair);
  if (!fetch.ok()) return fetch.status();
  Append(samples.fetch.whole, fetch->whole);
  samples.fetch.ranges = fetch->ranges;
  samples.fetch.pieces_bytes = fetch->pieces_bytes;
  samples.fetch.pieces_us.insert(samples.fetch.pieces_us.end(), fetch->pieces_us.begin(),
                                 fetch->pieces_us.end());
  for (const uint32_t rows : options.rows) {
    for (const uint32_t tokens : options.tokens) {
      for (uint32_t i = 0; i < options.warmup + options.repeats; ++i) {
        const auto timing = probe.Attend(rows, tokens, node, 1);
        if (!timing.ok()) return timing.status();
        if (i >= options.warmup) samples.attend_us[{rows, tokens}].push_back(timing->total_us);
      }
    }
  }
  return absl::OkStatus();
}

// The table of the points' medians, each less `other_us(rows)`.
template <typename OtherUs>
absl::Status FitNode(absl::string_view name, const Layout& layout,
                     const std::map<GridPoint, std::vector<double>>& timed, double quantile,
                     OtherUs other_us, NodeConstants& node) {
  std::vector<ComputeSample> samples;
  for (const auto& [point, times] : timed) {
    const double us = std::max(QuantileOf(times, quantile) - other_us(point.rows), kLeastBatchUs);
    samples.push_back(
        {.rows = point.rows, .tokens = point.tokens, .format = layout.record_format, .us = us});
  }
  auto table = FitCompute(samples, layout.record_format, ComputeRegime::kLatency);
  if (!table.ok()) {
    return absl::Status(table.status().code(),
                        absl::StrCat(name, ": ", std::string(table.status().message())));
  }
  node.Compute(layout.record_format, ComputeRegime::kLatency) = {.state = ConstantState::kMeasured,
                                                                 .table = *std::move(table)};
  return absl::OkStatus();
}

// Both bandwidths from how attends of the fewest tokens grow with the bytes that they move.
absl::Status FitPairFromAttends(const Layout& layout, const NodeSamples& node,
                                PairConstants& pair) {
  const Geometry geometry = layout.geometry();
  std::vector<LinkSample> moved;
  const uint32_t fewest = node.attend_us.begin()->first.tokens;
  for (const auto& [point, times] : node.attend_us) {
    if (point.tokens != fewest) continue;
    const uint64_t bytes = point.rows * (RowBytes(geometry) + PartialBytes(geometry));
    for (const double us : times) moved.push_back({bytes, us});
  }
  const auto fit = FitLink(moved);
  if (!fit.ok()) return fit.status();
  pair.out_bytes_per_us = pair.in_bytes_per_us =
      MeasuredConstant<ConstantKind::kBandwidth>(fit->bandwidth_bytes_per_us);
  return absl::OkStatus();
}

}  // namespace

double QuantileOf(std::vector<double> values, double quantile) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto last = static_cast<double>(values.size() - 1);
  const auto at = values.begin() + static_cast<int64_t>(std::clamp(quantile, 0.0, 1.0) * last);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

std::vector<PlanHolder> Calibration::Holders() const {
  std::vector<PlanHolder> holders;
  for (size_t i = 0; i < names.size(); ++i) {
    PlanHolder holder = {.id = PlanIdOf(names[i]), .node = &nodes[i], .pair = pairs[i]};
    holder.load.queue_us = MeasuredConstant<ConstantKind::kQueue>(0);
    holders.push_back(holder);
  }
  return holders;
}

absl::Status AddSamples(AttendProbe& probe, LocalAttention& local,
                        const CalibrationOptions& options, CalibrationSamples& samples) {
  samples.on_device = !probe.options().device.empty();
  samples.nodes.resize(probe.holders());
  for (uint32_t i = 0; i < probe.holders(); ++i) {
    if (absl::Status s = AddNode(probe, i, options, samples.nodes[i]); !s.ok()) return s;
  }
  // What it would have if it fetched from all of them.
  std::vector<uint32_t> more_tokens;
  const uint64_t of_all = uint64_t{options.tokens.back()} * probe.holders();
  if (probe.holders() > 1 && of_all <= local.most_tokens()) {
    more_tokens.push_back(static_cast<uint32_t>(of_all));
  }
  AddLocalSamples(local, more_tokens, options, samples);
  return absl::OkStatus();
}

void AddLocalSamples(LocalAttention& local, std::span<const uint32_t> more_tokens,
                     const CalibrationOptions& options, CalibrationSamples& samples) {
  std::vector<uint32_t> tokens = options.tokens;
  tokens.insert(tokens.end(), more_tokens.begin(), more_tokens.end());
  for (const uint32_t rows : options.rows) {
    for (const uint32_t some : tokens) {
      for (uint32_t i = 0; i < options.warmup + options.repeats; ++i) {
        const double us = local.TimeAttendUs(rows, some);
        if (i >= options.warmup) samples.local_us[{rows, some}].push_back(us);
      }
    }
  }
  for (uint32_t i = 0; i < options.repeats; ++i) {
    samples.merge_us.push_back(local.TimeMergeUs(options.rows.back()));
    samples.splice_records_per_us.push_back(local.TimeSpliceRecordsPerUs());
  }
}

absl::StatusOr<Calibration> Calibrate(const Layout& layout, const std::vector<NodeId>& names,
                                      const CalibrationSamples& samples, double quantile) {
  Calibration all;
  all.names = names;
  // A device merges what a launch takes, whatever the rows: that is in the attends.
  const double merge_us =
      samples.on_device ? RuleOf(ConstantKind::kMerge).least : Median(samples.merge_us);
  all.requester.merge_us = MeasuredConstant<ConstantKind::kMerge>(merge_us);
  const double splice = Median(samples.splice_records_per_us);
  if (!std::isnan(splice)) {
    all.requester.splice_records_per_us = MeasuredConstant<ConstantKind::kSpliceRate>(splice);
  }
  if (auto s = FitNode(
          "this requester", layout, samples.local_us, quantile, [](uint32_t) { return 0; },
          all.requester.node);
      !s.ok()) {
    return s;
  }
  std::vector<double> copies;
  for (size_t i = 0; i < samples.nodes.size(); ++i) {
    const NodeSamples& node = samples.nodes[i];
    auto pair = FitPair(names[i], node.link);
    if (!pair.ok()) return pair.status();
    Constant<ConstantKind::kCopyRate> copy;
    if (absl::Status s = FitFetch(names[i], node.fetch, *pair, copy); !s.ok()) return s;
    copies.push_back(copy.value);
    if (samples.on_device) {
      if (absl::Status s = FitPairFromAttends(layout, node, *pair); !s.ok()) return s;
    }
    RoutePricer pricer;
    HolderLoad idle;
    idle.queue_us = MeasuredConstant<ConstantKind::kQueue>(0);
    const auto link_us = [&](uint32_t rows) {
      pricer.Reset(NodeConstants{}, *pair, idle, all.requester.merge_us.Usable(), layout.geometry(),
                   layout.record_format, rows);
      RouteTerms terms = pricer.Terms(1, 1);
      terms.compute_us = 0;
      return terms.RoundTripUs() + terms.merge_us;
    };
    NodeConstants constants;
    if (auto s = FitNode(names[i], layout, node.attend_us, quantile, link_us, constants); !s.ok())
      return s;
    all.nodes.push_back(constants);
    all.pairs.push_back(*pair);
  }
  if (!copies.empty()) {
    all.requester.copy_bytes_per_us = MeasuredConstant<ConstantKind::kCopyRate>(Median(copies));
  }
  if (absl::Status s = Vet("this requester", all.requester); !s.ok()) return s;
  return all;
}

}  // namespace latentd
