#include "tools/model_check.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "routing/costs_proto.h"

namespace latentd {
namespace {

using Clock = std::chrono::steady_clock;

// What was timed at the points to be checked.
struct Timed {
  std::map<std::pair<GridPoint, uint32_t>, std::vector<double>> routed;  // by holders
  std::map<GridPoint, std::vector<double>> local;
  std::map<uint32_t, std::vector<double>> fetched;  // of one node, by tokens
};

class Run {
 public:
  Run(AttendProbe& probe, LocalAttention& local, const ModelCheckOptions& options)
      : probe_(probe), local_(local), options_(options) {}

  absl::Status All() {
    const uint32_t rounds = std::max(options_.rounds, 1u);
    for (uint32_t round = 0; round < rounds; ++round) {
      options_.progress(absl::StrCat("round ", round + 1, " of ", rounds));
      if (auto s = AddSamples(probe_, local_, options_.fit, samples_); !s.ok()) return s;
      // So many of the first rounds have one more.
      const auto share = [&](uint32_t all) {
        return all / rounds + (round < all % rounds ? 1 : 0);
      };
      if (auto s = Round(share(options_.warmup), share(options_.requests)); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

  const CalibrationSamples& samples() const { return samples_; }
  const Timed& timed() const { return timed_; }

 private:
  absl::Status Round(uint32_t warmup, uint32_t counted) {
    for (const uint32_t rows : options_.rows) {
      for (const uint32_t tokens : options_.tokens) {
        const GridPoint at = {rows, tokens};
        for (uint32_t holders = 1; holders <= probe_.holders(); ++holders) {
          if (auto s = Route(at, holders, warmup, counted); !s.ok()) return s;
          const uint32_t here = tokens * holders;
          for (uint32_t i = 0; i < options_.fit.warmup + options_.fit.repeats; ++i) {
            const double us = local_.TimeAttendUs(rows, here);
            if (i >= options_.fit.warmup) timed_.local[{rows, here}].push_back(us);
          }
        }
      }
    }
    for (const uint32_t tokens : options_.tokens) {
      if (absl::Status s = Fetch(tokens); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

  absl::Status Route(const GridPoint& at, uint32_t holders, uint32_t warmup, uint32_t counted) {
    for (uint32_t i = 0; i < warmup + counted; ++i) {
      const auto timing = probe_.Attend(at.rows, at.tokens, 0, holders);
      if (!timing.ok()) return timing.status();
      if (i >= warmup) timed_.routed[{at, holders}].push_back(timing->total_us);
    }
    return absl::OkStatus();
  }

  absl::Status Fetch(uint32_t tokens) {
    Client& client = probe_.client();
    const ChunkRange range = {
        .chunk = probe_.chunk(0), .layers = probe_.options().layers, .tokens = tokens};
    std::vector<std::byte> records(client.layout().record_bytes() * range.layers * tokens);
    for (uint32_t i = 0; i < options_.fit.warmup + options_.fit.repeats; ++i) {
      if (options_.interrupted()) return absl::CancelledError("interrupted");
      const Clock::time_point start = Clock::now();
      if (auto s = client.Fetch(range, records, options_.timeout); !s.ok()) return s;
      const std::chrono::duration<double, std::micro> us = Clock::now() - start;
      if (i >= options_.fit.warmup) timed_.fetched[tokens].push_back(us.count());
    }
    return absl::OkStatus();
  }

  AttendProbe& probe_;
  LocalAttention& local_;
  const ModelCheckOptions& options_;
  CalibrationSamples samples_;
  Timed timed_;
};

// A horizon in which `fetched` of the holders' parts are fetched, put together of measured parts.
double MeasuredUs(const Timed& timed, const PredictionCase& at, uint32_t layers, uint32_t fetched,
                  double merge_us, double quantile) {
  const auto of = [quantile](const std::vector<double>& times) {
    return QuantileOf(times, quantile);
  };
  const uint32_t routed = at.holders - fetched;
  double layer_us = 0;
  if (routed > 0) layer_us = of(timed.routed.at({{at.rows, at.tokens}, routed}));
  double setup_us = 0;
  if (fetched > 0) {
    setup_us = fetched * of(timed.fetched.at(at.tokens));
    layer_us = std::max(layer_us, of(timed.local.at({at.rows, at.tokens * fetched})));
    if (routed > 0) layer_us += merge_us * at.rows;
  }
  return setup_us + double{1} * at.steps * layers * layer_us;
}

CheckedChoice Choice(const Timed& timed, const PredictionCase& at, uint32_t layers,
                     uint32_t planned, double merge_us, double quantile) {
  CheckedChoice choice = {.at = at, .fetched = planned};
  choice.best_measured_us = std::numeric_limits<double>::infinity();
  for (uint32_t fetched = 0; fetched <= at.holders; ++fetched) {
    const double us = MeasuredUs(timed, at, layers, fetched, merge_us, quantile);
    if (fetched == planned) choice.measured_us = us;
    if (us >= choice.best_measured_us) continue;
    choice.best_measured_us = us;
    choice.best_fetched = fetched;
  }
  return choice;
}

absl::StatusOr<ModelComparison> Compare(const Layout& layout, const std::vector<NodeId>& names,
                                        const ModelCheckOptions& options, const Run& run,
                                        double quantile,
                                        const std::vector<NodeConstants>* own = nullptr) {
  auto calibration = Calibrate(layout, names, run.samples(), quantile);
  if (!calibration.ok()) return calibration.status();
  ModelComparison all = {.quantile = quantile, .calibration = *std::move(calibration)};
  if (own != nullptr) all.calibration.nodes = *own;
  const std::vector<PlanHolder> holders = all.calibration.Holders();
  const RequesterConstants& requester = all.calibration.requester;
  const Timed& timed = run.timed();
  for (const auto& [key, times] : timed.routed) {
    CheckedPoint point;
    point.at = {.rows = key.first.rows, .tokens = key.first.tokens, .holders = key.second};
    point.predicted = PredictRoute(layout, holders, requester, point.at);
    point.measured_us = QuantileOf(times, quantile);
    all.points.push_back(point);
    for (const uint32_t steps : options.steps) {
      PredictionCase at = point.at;
      at.steps = steps;
      const auto planned = PlanCase(layout, holders, requester, at);
      if (!planned.ok()) return planned.status();
      all.choices.push_back(Choice(timed, at, layout.layers, planned->fetched,
                                   requester.merge_us.Usable(), quantile));
    }
  }
  for (const auto& [tokens, times] : timed.fetched) {
    const PredictionCase at = {.rows = 1, .tokens = tokens};
    all.fetches.push_back({at, PredictFetch(layout, holders[0], requester, at).TotalUs(),
                           QuantileOf(times, quantile)});
  }
  return all;
}

// What these nodes say of themselves; empty unless each has a table of the layout's format.
std::vector<NodeConstants> OwnTables(const Client& client, const std::vector<NodeId>& names,
                                     const std::vector<v1::NodeCosts>& messages) {
  std::vector<NodeConstants> tables;
  for (const NodeId& name : names) {
    for (const v1::NodeCosts& message : messages) {
      if (message.node_id() != name) continue;
      const auto index = client.table()->FindNode(name);
      if (!index.has_value()) continue;
      const NodeConstants own =
          FromProto(message, absl::Now(), client.table()->node(*index).generation).costs.compute;
      const TimedTable& table = own.Compute(client.layout().record_format, ComputeRegime::kLatency);
      if (table.state == ConstantState::kMeasured) tables.push_back(own);
    }
  }
  if (tables.size() != names.size()) tables.clear();
  return tables;
}

}  // namespace

double ModelComparison::MeanError(uint32_t least_rows) const {
  double sum = 0;
  int count = 0;
  for (const CheckedPoint& point : points) {
    if (point.at.rows < least_rows) continue;
    sum += std::abs(point.error());
    ++count;
  }
  return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / count;
}

double ModelComparison::GoodChoices() const {
  const auto good = std::count_if(choices.begin(), choices.end(),
                                  [](const CheckedChoice& choice) { return choice.good(); });
  return choices.empty() ? std::numeric_limits<double>::quiet_NaN()
                         : static_cast<double>(good) / static_cast<double>(choices.size());
}

absl::StatusOr<ModelCheckReport> CheckModel(Client& client, const ModelCheckOptions& options) {
  const uint32_t most_rows = std::max(*std::max_element(options.rows.begin(), options.rows.end()),
                                      options.fit.rows.back());
  const uint32_t most_tokens = std::max(
      *std::max_element(options.tokens.begin(), options.tokens.end()), options.fit.tokens.back());
  options.progress("publishing");
  auto probe = AttendProbe::Create(client, {.holders = options.holders,
                                            .most_rows = most_rows,
                                            .most_tokens = most_tokens,
                                            .layers = client.layout().layers,
                                            .device = options.device,
                                            .timeout = options.timeout,
                                            .interrupted = options.interrupted});
  if (!probe.ok()) return probe.status();
  LocalAttention local(client.layout(), most_rows, most_tokens * probe->holders(),
                       options.local_threads);
  Run run(*probe, local, options);
  if (absl::Status s = run.All(); !s.ok()) return s;
  auto medians = Compare(client.layout(), probe->nodes(), options, run, 0.5);
  if (!medians.ok()) return medians.status();
  auto quickest = Compare(client.layout(), probe->nodes(), options, run, 0.1);
  if (!quickest.ok()) return quickest.status();
  ModelCheckReport report = {.layout = client.layout(),
                             .transports = client.TransportsTo(probe->holder(0)),
                             .medians = *std::move(medians),
                             .quickest = *std::move(quickest)};
  const std::vector<NodeConstants> own = OwnTables(client, probe->nodes(), options.costs);
  if (own.empty()) return report;
  auto by_nodes = Compare(client.layout(), probe->nodes(), options, run, 0.5, &own);
  if (!by_nodes.ok()) return by_nodes.status();
  report.by_nodes = *std::move(by_nodes);
  return report;
}

}  // namespace latentd
