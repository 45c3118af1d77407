#include "tools/bench_report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "tools/text_table.h"

namespace latentd {
namespace {

using nlohmann::json;

json ToJson(const Percentiles& p) {
  return {{"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}, {"max", p.max}};
}

// JSON has no NaN: an error that is none says so.
json Number(double value) { return std::isfinite(value) ? json(value) : json("nan"); }

std::string Verdict(const WorstError& error) {
  if (error.rows == 0) return "NOTHING COMPARED";
  return error.wrong == 0 ? "right" : absl::StrCat(error.wrong, " WRONG");
}

std::vector<std::string> Cells(const Percentiles& p) {
  return {Fixed(p.p50, 1), Fixed(p.p90, 1), Fixed(p.p99, 1)};
}

// All traces as one.
ReplayReport Total(const std::vector<ReplayReport>& reports) {
  ReplayReport total;
  total.trace = "total";
  for (const ReplayReport& report : reports) {
    total.queries += report.queries;
    total.chunks += report.chunks;
    total.error.Add(report.error);
    total.latency_us.insert(total.latency_us.end(), report.latency_us.begin(),
                            report.latency_us.end());
    total.routed_bytes += report.routed_bytes;
    total.cache_bytes += report.cache_bytes;
    total.cache_bytes_each += report.cache_bytes_each;
    total.published_bytes += report.published_bytes;
  }
  return total;
}

json ReportJson(const ReplayReport& report) {
  return {{"trace", report.trace},
          {"queries", report.queries},
          {"chunks", report.chunks},
          {"rows_compared", report.error.rows},
          {"rows_wrong", report.error.wrong},
          {"out_relative_l2_max", Number(report.error.out_relative_l2)},
          {"lse_error_max", Number(report.error.lse)},
          {"latency_us", ToJson(PercentilesOf(report.latency_us))},
          {"routed_bytes", report.routed_bytes},
          {"cache_bytes", report.cache_bytes},
          {"cache_bytes_each_query", report.cache_bytes_each},
          {"published_bytes", report.published_bytes},
          {"right", report.right()}};
}

// Whoever sees that these queries moved more bytes than their traces' records are is told why.
std::string BytesNote(const ReplayReport& total) {
  const auto steps = static_cast<double>(std::max<size_t>(total.latency_us.size(), 1));
  return absl::StrCat(
      "bytes moved: of the queries of single steps and their answers. A query goes to every node "
      "that "
      "holds some of its\nchunks, and asks in one layer: on average ",
      HumanBytes(static_cast<double>(total.routed_bytes) / steps),
      " moved, while the records that it attends are ",
      HumanBytes(static_cast<double>(total.cache_bytes_each) / steps),
      ".\nTraces are short, so that fetching their records once and keeping them can take fewer "
      "bytes. "
      "What a query moves does\nnot grow with the context: over 131072 bf16 tokens it is the same, "
      "and "
      "the records are 144 MiB a layer.\n");
}

constexpr char kLegend[] =
    "queries: each step by itself (these give the latencies), then all steps of a layer in one. "
    "rows: "
    "heads of all of them,\neach compared. state open: the trace has records for fewer layers than "
    "the "
    "cluster's layout; its chunks go with the\nsession. sealed: for all layers; the chunks stay.\n";

}  // namespace

std::string TracesText(const std::vector<Trace>& traces) {
  TextTable table({"trace", ">layers", ">heads", ">context", ">steps", "recorded from"});
  for (const Trace& t : traces) {
    table.Add({t.name, absl::StrCat(t.layers.size()), absl::StrCat(t.heads),
               absl::StrCat(t.context), absl::StrCat(t.steps), t.source});
  }
  return table.ToString();
}

json TracesJson(const std::vector<Trace>& traces) {
  json list = json::array();
  for (const Trace& t : traces) {
    list.push_back({{"trace", t.name},
                    {"layers", t.layers.size()},
                    {"heads", t.heads},
                    {"context_tokens", t.context},
                    {"steps", t.steps},
                    {"source", t.source}});
  }
  return {{"traces", std::move(list)}};
}

std::string ReplayText(const std::vector<ReplayReport>& reports) {
  TextTable table({"trace", "record", ">nodes", ">chunks", "state", ">heads", ">queries", ">rows",
                   ">max out error", ">max lse error", ">p50 us", ">p90 us", ">p99 us", "answers"});
  TextTable bytes(
      {"bytes moved", ">routed queries", ">the cache, once", ">the cache, for each query"});
  std::vector<ReplayReport> lines = reports;
  if (reports.size() > 1) lines.push_back(Total(reports));
  for (const ReplayReport& r : lines) {
    const bool total = r.trace == "total";
    const std::vector<std::string> latency = Cells(PercentilesOf(r.latency_us));
    table.Add({r.trace, total ? "" : std::string(RecordFormatName(r.record)),
               total ? "" : absl::StrCat(r.nodes), absl::StrCat(r.chunks),
               total      ? ""
               : r.sealed ? "sealed"
                          : "open",
               total ? "" : absl::StrCat(r.heads), absl::StrCat(r.queries),
               absl::StrCat(r.error.rows), Scientific(r.error.out_relative_l2),
               Scientific(r.error.lse), latency[0], latency[1], latency[2], Verdict(r.error)});
    bytes.Add({r.trace, HumanBytes(static_cast<double>(r.routed_bytes)),
               HumanBytes(static_cast<double>(r.cache_bytes)),
               HumanBytes(static_cast<double>(r.cache_bytes_each))});
  }
  const ReplayReport sum = Total(reports);
  const WorstError& all = sum.error;
  return absl::StrCat(table.ToString(), kLegend, "\n", bytes.ToString(), BytesNote(sum), "\n",
                      all.rows, " rows compared, ", all.wrong, " wrong (bounds: out ",
                      Scientific(kOutBound), " relative, lse ", Scientific(kLseBound), ")\n");
}

json ReplayJson(const std::vector<ReplayReport>& reports) {
  json traces = json::array();
  for (const ReplayReport& report : reports) {
    json entry = ReportJson(report);
    entry["record"] = std::string(RecordFormatName(report.record));
    entry["nodes"] = report.nodes;
    entry["sealed"] = report.sealed;
    entry["heads"] = report.heads;
    traces.push_back(std::move(entry));
  }
  return {{"traces", std::move(traces)},
          {"total", ReportJson(Total(reports))},
          {"bounds", {{"out_relative_l2", kOutBound}, {"lse_error", kLseBound}}}};
}

std::string AttendLoadText(const AttendLoadOptions& options, const AttendLoadReport& report) {
  const double seconds = std::max(report.seconds, 1e-9);
  std::string text = absl::StrCat(
      report.requests, " queries of ", options.query_tokens, " x ", options.heads, " rows over ",
      options.tokens, " tokens in ", report.chunks, " chunks on ", options.holders, " nodes, ",
      options.concurrency, " in flight\n", Fixed(static_cast<double>(report.requests) / seconds, 1),
      " queries/s, ", Fixed(static_cast<double>(report.rows) / seconds, 0), " rows/s, ",
      Fixed(report.mean_batch_rows, 1), " rows a batch, ",
      HumanBytes(static_cast<double>(report.bytes_sent) / seconds), "/s out, ",
      HumanBytes(static_cast<double>(report.bytes_received) / seconds), "/s in\n\n");
  TextTable table({"microseconds", ">p50", ">p90", ">p99", "what"});
  const auto add = [&](const char* name, const Percentiles& p, const char* what) {
    std::vector<std::string> cells = Cells(p);
    cells.insert(cells.begin(), name);
    cells.emplace_back(what);
    table.Add(std::move(cells));
  };
  add("total", report.total, "as the caller sees it");
  add("round trip", report.rtt, "of the slowest holder");
  add("  queue", report.queue, "at the holder, before its batch");
  add("  compute", report.compute, "of the holder's batch");
  add("  beyond", report.beyond, "the round trip without both: wire and handling");
  return text + table.ToString();
}

json AttendLoadJson(const AttendLoadOptions& options, const AttendLoadReport& report) {
  const double seconds = std::max(report.seconds, 1e-9);
  return {{"heads", options.heads},
          {"query_tokens", options.query_tokens},
          {"tokens", options.tokens},
          {"holders", options.holders},
          {"concurrency", options.concurrency},
          {"chunks", report.chunks},
          {"requests", report.requests},
          {"seconds", report.seconds},
          {"queries_per_second", static_cast<double>(report.requests) / seconds},
          {"rows_per_second", static_cast<double>(report.rows) / seconds},
          {"mean_batch_rows", report.mean_batch_rows},
          {"bytes_sent", report.bytes_sent},
          {"bytes_received", report.bytes_received},
          {"total_us", ToJson(report.total)},
          {"rtt_us", ToJson(report.rtt)},
          {"queue_us", ToJson(report.queue)},
          {"compute_us", ToJson(report.compute)},
          {"beyond_us", ToJson(report.beyond)}};
}

std::string EchoText(const std::vector<EchoReport>& reports) {
  TextTable table({"node", "transport", ">sent", ">received", ">requests", ">p50 us", ">p90 us",
                   ">p99 us", ">per second"});
  for (const EchoReport& r : reports) {
    const std::vector<std::string> rtt = Cells(r.rtt);
    const double per_second = static_cast<double>(r.requests) / std::max(r.seconds, 1e-9);
    table.Add({r.holder.node, r.transports, HumanBytes(static_cast<double>(r.sent_bytes)),
               HumanBytes(static_cast<double>(r.received_bytes)), absl::StrCat(r.requests), rtt[0],
               rtt[1], rtt[2],
               HumanBytes(static_cast<double>(r.sent_bytes + r.received_bytes) * per_second)});
  }
  return table.ToString();
}

json EchoJson(const std::vector<EchoReport>& reports) {
  json nodes = json::array();
  for (const EchoReport& r : reports) {
    nodes.push_back({{"node", r.holder.node},
                     {"transports", r.transports},
                     {"sent_bytes", r.sent_bytes},
                     {"received_bytes", r.received_bytes},
                     {"requests", r.requests},
                     {"seconds", r.seconds},
                     {"rtt_us", ToJson(r.rtt)}});
  }
  return {{"nodes", std::move(nodes)}};
}

}  // namespace latentd
