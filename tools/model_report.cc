#include "tools/model_report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/svg_plot.h"
#include "tools/text_table.h"

namespace latentd {
namespace {

using nlohmann::json;

constexpr uint32_t kLargeRows = 512;
constexpr uint32_t kSmallRows = 16;

std::string Us(double us) { return Fixed(us, us < 100 ? 1 : 0); }

std::string Percent(double share) {
  return std::isfinite(share) ? absl::StrCat(Fixed(100 * share, 1), " %") : "none";
}

json Number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

std::string ConstantsText(const Calibration& all) {
  TextTable table(
      {"node", ">probe us", ">out bytes/us", ">in bytes/us", ">handshake us", ">range us"});
  for (size_t i = 0; i < all.names.size(); ++i) {
    const PairConstants& pair = all.pairs[i];
    table.Add({all.names[i], Us(pair.probe_us.value), Fixed(pair.out_bytes_per_us.value, 0),
               Fixed(pair.in_bytes_per_us.value, 0), Us(pair.handshake_us.value),
               Fixed(pair.range_us.value, 2)});
  }
  return absl::StrCat(
      table.ToString(),
      absl::StrFormat("this requester: merge %.4f us/row, splice %.0f records/us, copy %.0f "
                      "bytes/us\n\n",
                      all.requester.merge_us.value, all.requester.splice_records_per_us.value,
                      all.requester.copy_bytes_per_us.value));
}

std::string PointsText(const ModelComparison& report) {
  TextTable table({">rows", ">tokens", ">holders", ">probe", ">transfer", ">queue", ">compute",
                   ">return", ">merge", ">predicted us", ">measured us", ">error"});
  for (const CheckedPoint& point : report.points) {
    const RouteTerms& terms = point.predicted.slowest;
    table.Add({absl::StrCat(point.at.rows), absl::StrCat(point.at.tokens),
               absl::StrCat(point.at.holders), Us(terms.probe_us), Us(terms.transfer_us),
               Us(terms.queue_us), Us(terms.compute_us), Us(terms.return_us),
               Us(point.predicted.merge_us), Us(point.predicted.layer_us), Us(point.measured_us),
               Percent(point.error())});
  }
  return table.ToString();
}

std::string ChoicesText(const ModelComparison& report) {
  TextTable table({">rows", ">tokens", ">holders", ">steps", ">fetched", ">best fetched",
                   ">planned ms", ">best ms"});
  size_t bad = 0;
  for (const CheckedChoice& choice : report.choices) {
    if (choice.good()) continue;
    ++bad;
    table.Add({absl::StrCat(choice.at.rows), absl::StrCat(choice.at.tokens),
               absl::StrCat(choice.at.holders), absl::StrCat(choice.at.steps),
               absl::StrCat(choice.fetched), absl::StrCat(choice.best_fetched),
               Fixed(choice.measured_us * 1e-3, 2), Fixed(choice.best_measured_us * 1e-3, 2)});
  }
  if (bad == 0) return "";
  return absl::StrCat("\nchoices that are more than 5 % dearer than the measured best:\n",
                      table.ToString());
}

}  // namespace

std::string ModelCheckText(const ModelCheckReport& report) {
  const ModelComparison& medians = report.medians;
  std::string text = absl::StrCat("over ", report.transports, "\n",
                                  ConstantsText(medians.calibration), PointsText(medians), "\n");
  for (const CheckedFetch& fetch : medians.fetches) {
    absl::StrAppend(&text, "fetch of ", fetch.at.tokens, " tokens: predicted ",
                    Us(fetch.predicted_us), " us, measured ", Us(fetch.measured_us), " us\n");
  }
  absl::StrAppend(&text, ChoicesText(medians), "\n");
  TextTable verdict({"taken of each point", absl::StrCat(">error from ", kLargeRows, " rows on"),
                     absl::StrCat(">from ", kSmallRows, " rows on"), ">good choices"});
  const auto judge = [&](const char* name, const ModelComparison& one) {
    verdict.Add({name, Percent(one.MeanError(kLargeRows)), Percent(one.MeanError(kSmallRows)),
                 absl::StrCat(Percent(one.GoodChoices()), " of ", one.choices.size())});
  };
  judge("medians", medians);
  judge("quickest tenth", report.quickest);
  if (report.by_nodes.has_value()) judge("medians, from the nodes' own tables", *report.by_nodes);
  return absl::StrCat(text, verdict.ToString(),
                      "error: mean of |predicted / measured - 1|. good choices: what the planner "
                      "takes is the measured best,\nor within 5 % of it.\n");
}

json ComparisonJson(const ModelComparison& report) {
  json points = json::array();
  for (const CheckedPoint& point : report.points) {
    const RouteTerms& terms = point.predicted.slowest;
    points.push_back({{"rows", point.at.rows},
                      {"tokens", point.at.tokens},
                      {"holders", point.at.holders},
                      {"predicted_us",
                       {{"probe", terms.probe_us},
                        {"transfer", terms.transfer_us},
                        {"queue", terms.queue_us},
                        {"compute", terms.compute_us},
                        {"return", terms.return_us},
                        {"merge", point.predicted.merge_us},
                        {"total", point.predicted.layer_us}}},
                      {"measured_us", point.measured_us},
                      {"error", point.error()}});
  }
  json choices = json::array();
  for (const CheckedChoice& choice : report.choices) {
    choices.push_back({{"rows", choice.at.rows},
                       {"tokens", choice.at.tokens},
                       {"holders", choice.at.holders},
                       {"steps", choice.at.steps},
                       {"fetched", choice.fetched},
                       {"best_fetched", choice.best_fetched},
                       {"measured_us", choice.measured_us},
                       {"best_measured_us", choice.best_measured_us}});
  }
  json fetches = json::array();
  for (const CheckedFetch& fetch : report.fetches) {
    fetches.push_back({{"tokens", fetch.at.tokens},
                       {"predicted_us", fetch.predicted_us},
                       {"measured_us", fetch.measured_us}});
  }
  return {{"quantile", report.quantile},
          {"points", points},
          {"fetches", fetches},
          {"choices", choices},
          {"mean_error_512_rows", Number(report.MeanError(kLargeRows))},
          {"mean_error_16_rows", Number(report.MeanError(kSmallRows))},
          {"good_choices", Number(report.GoodChoices())}};
}

json ModelCheckJson(const ModelCheckReport& report) {
  json all = {{"transports", report.transports},
              {"medians", ComparisonJson(report.medians)},
              {"quickest_tenth", ComparisonJson(report.quickest)}};
  if (report.by_nodes.has_value()) all["by_nodes"] = ComparisonJson(*report.by_nodes);
  return all;
}

bool MeetsGoals(const ModelCheckReport& check) {
  const ModelComparison& report = check.medians;
  const auto within = [](double value, double most) { return std::isnan(value) || value <= most; };
  return within(report.MeanError(kLargeRows), 0.05) && within(report.MeanError(kSmallRows), 0.10) &&
         within(1 - report.GoodChoices(), 0.05);
}

std::string FaninText(const FaninReport& report) {
  TextTable table({">requesters", ">latency us", ">p90", ">predicted us", ">error", ">queue us",
                   ">by reports us", ">batch rows", ">queries/s", ">predicted/s"});
  for (const FaninPoint& point : report.points) {
    table.Add({absl::StrCat(point.requesters), Us(point.latency.p50), Us(point.latency.p90),
               Us(point.predicted_us), Percent(point.predicted_us / point.latency.p50 - 1),
               Us(point.queue_us), Us(point.from_reports_us), Fixed(point.mean_batch_rows, 0),
               Fixed(point.per_second, 0), Fixed(point.predicted_per_second(), 0)});
  }
  return absl::StrCat("each of ", report.rows, " rows over ", report.tokens,
                      " tokens of one holder, over ", report.transports, ", requesters on ",
                      report.threads, " threads\n", table.ToString(),
                      "predicted: from the calibration alone. by reports: a route's terms with the "
                      "queue that the answers reported\n");
}

json FaninJson(const FaninReport& report) {
  json points = json::array();
  for (const FaninPoint& point : report.points) {
    points.push_back(
        {{"requesters", point.requesters},
         {"latency_us",
          {{"p50", point.latency.p50}, {"p90", point.latency.p90}, {"p99", point.latency.p99}}},
         {"queue_us", point.queue_us},
         {"batch_rows", point.mean_batch_rows},
         {"per_second", point.per_second},
         {"predicted_us", point.predicted_us},
         {"predicted_from_reports_us", point.from_reports_us},
         {"predicted_per_second", point.predicted_per_second()}});
  }
  return {{"rows", report.rows},
          {"tokens", report.tokens},
          {"threads", report.threads},
          {"transports", report.transports},
          {"points", points}};
}

std::string FaninSvg(const FaninReport& report) {
  SvgPlot::Points latency, predicted, rate, predicted_rate;
  double most = 1;
  double least = 1e12;
  for (const FaninPoint& point : report.points) {
    const auto x = static_cast<double>(point.requesters);
    latency.emplace_back(x, point.latency.p50);
    predicted.emplace_back(x, point.predicted_us);
    rate.emplace_back(x, point.per_second);
    predicted_rate.emplace_back(x, point.predicted_per_second());
    for (const double value :
         {point.latency.p50, point.predicted_us, point.per_second, point.predicted_per_second()}) {
      most = std::max(most, value);
      least = std::min(least, std::max(value, 1.0));
    }
  }
  PlotAxis y = {.name = "latency (us), queries/s", .logarithmic = true};
  y.from = std::pow(10, std::floor(std::log10(least)));
  y.to = std::pow(10, std::floor(std::log10(most)) + 1);
  for (double tick = y.from; tick <= y.to; tick *= 10) y.ticks.push_back(tick);
  PlotAxis x = {.name = "requesters", .from = 1, .to = 2, .logarithmic = true};
  for (const auto& point : latency) x.ticks.push_back(point.first);
  if (!latency.empty()) x.to = std::max(2.0, latency.back().first);
  SvgPlot plot(absl::StrCat(report.rows, " rows over ", report.tokens, " tokens of one holder, ",
                            report.transports),
               x, y);
  constexpr char kLatency[] = "#1f5fa8";
  constexpr char kRate[] = "#a83232";
  plot.Line(predicted, kLatency, true);
  plot.Line(predicted_rate, kRate, true);
  plot.Line(latency, kLatency, false);
  plot.Line(rate, kRate, false);
  plot.Dots(latency, kLatency);
  plot.Dots(rate, kRate);
  plot.Legend("latency, median (us)", kLatency);
  plot.Legend("queries/s", kRate);
  plot.Legend("dashed: predicted", "white");
  return plot.ToString();
}

absl::StatusOr<std::string> FrontierSvg(const ModelCheckReport& report, uint32_t steps,
                                        double prefill_us_per_token) {
  constexpr int kCells = 48;
  constexpr const char* kAreas[] = {"#c9ddf2", "#f4d9c6", "#d5ead2"};
  constexpr const char* kDots[] = {"#1f5fa8", "#c05a14"};
  const PlotAxis rows = {.name = "rows of a query",
                         .from = 1,
                         .to = 2048,
                         .logarithmic = true,
                         .ticks = {1, 4, 16, 64, 256, 1024}};
  const PlotAxis tokens = {.name = "tokens",
                           .from = 64,
                           .to = 65536,
                           .logarithmic = true,
                           .ticks = {64, 256, 1024, 4096, 16384, 65536}};
  SvgPlot plot(absl::StrCat("cheapest over ", steps, " steps of ", report.layout.layers,
                            " layers, one holder, ", report.transports),
               rows, tokens);
  const auto at = [](const PlotAxis& axis, double share) {
    return axis.from * std::pow(axis.to / axis.from, share);
  };
  RequesterConstants requester = report.medians.calibration.requester;
  if (prefill_us_per_token > 0) {
    requester.prefill_us_per_token = MeasuredConstant<ConstantKind::kPrefill>(prefill_us_per_token);
  }
  const double cell = double{1} / kCells;
  for (int k = 0; k < kCells; ++k) {
    int from = 0;  // of the cells so far that have one colour
    int colour = -1;
    for (int i = 0; i <= kCells; ++i) {
      int next = -1;
      if (i < kCells) {
        const PredictionCase one = {.rows = static_cast<uint32_t>(at(rows, (i + 0.5) * cell)),
                                    .tokens = static_cast<uint32_t>(at(tokens, (k + 0.5) * cell)),
                                    .steps = steps,
                                    .may_recompute = prefill_us_per_token > 0};
        const auto planned =
            PlanCase(report.layout, report.medians.calibration.Holders(), requester, one);
        if (!planned.ok()) return planned.status();
        next = planned->local > 0 ? 2 : planned->fetched > 0 ? 1 : 0;
      }
      if (next == colour) continue;
      if (colour >= 0) {
        plot.Area(at(rows, from * cell), at(rows, i * cell), at(tokens, k * cell),
                  at(tokens, (k + 1) * cell), kAreas[colour]);
      }
      colour = next;
      from = i;
    }
  }
  for (const CheckedChoice& choice : report.medians.choices) {
    if (choice.at.steps != steps || choice.at.holders != 1) continue;
    plot.Dots({{choice.at.rows, choice.at.tokens}}, kDots[choice.best_fetched > 0 ? 1 : 0]);
  }
  plot.Legend("predicted: route", kAreas[0]);
  plot.Legend("predicted: fetch", kAreas[1]);
  if (prefill_us_per_token > 0) plot.Legend("predicted: compute anew", kAreas[2]);
  plot.Legend("measured: route", kDots[0]);
  plot.Legend("measured: fetch", kDots[1]);
  return plot.ToString();
}

}  // namespace latentd
