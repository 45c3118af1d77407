#include "tools/costs_view.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "routing/costs_proto.h"
#include "tools/text_table.h"

namespace latentd {
namespace {

using nlohmann::json;

struct Shown {
  uint32_t rows;
  uint32_t tokens;
};
constexpr Shown kShown[] = {{16, 1024}, {128, 2048}, {1024, 2048}, {4096, 8192}};

std::string AgeText(int64_t measured_unix_ms, absl::Time now) {
  if (measured_unix_ms <= 0) return "unknown";
  const absl::Duration age = now - absl::FromUnixMillis(measured_unix_ms);
  return absl::FormatDuration(absl::Trunc(std::max(age, absl::ZeroDuration()), absl::Seconds(1)));
}

std::string StateText(ConstantState state) { return std::string(ConstantStateName(state)); }

std::string Micros(double us) { return Fixed(us, us < 100 ? 1 : 0); }

// Without its lists.
v1::NodeCosts HeadOf(const v1::NodeCosts& node) {
  v1::NodeCosts head = node;
  head.clear_compute();
  head.clear_links();
  return head;
}

// The one table of a message that has one.
TimedTable TableOf(const v1::NodeCosts& node, const v1::ComputeCosts& compute, absl::Time now) {
  v1::NodeCosts one = HeadOf(node);
  *one.add_compute() = compute;
  const NodeCosts read = FromProto(one, now, Generation{}).costs;
  for (const auto& format : read.compute.compute) {
    for (const TimedTable& table : format) {
      if (table.state != ConstantState::kMissing) return table;
    }
  }
  return {};
}

std::string RegimeText(v1::ComputeRegime regime) {
  switch (regime) {
    case v1::COMPUTE_REGIME_LATENCY:
      return "alone";
    case v1::COMPUTE_REGIME_THROUGHPUT:
      return "busy";
    default:
      return absl::StrCat("regime ", static_cast<int>(regime));
  }
}

json ComputeJson(const v1::ComputeCosts& compute, ConstantState state) {
  return {{"lane", compute.lane()},
          {"record", compute.record()},
          {"regime", RegimeText(compute.regime())},
          {"state", StateText(state)},
          {"measured_unix_ms", compute.measured_unix_ms()},
          {"rows", std::vector<uint32_t>(compute.rows().begin(), compute.rows().end())},
          {"tokens", std::vector<uint32_t>(compute.tokens().begin(), compute.tokens().end())},
          {"us", std::vector<float>(compute.us().begin(), compute.us().end())}};
}

void AddCompute(const v1::NodeCosts& node, absl::Time now, TextTable& text, json& to) {
  for (const v1::ComputeCosts& compute : node.compute()) {
    const TimedTable table = TableOf(node, compute, now);
    std::vector<std::string> cells = {
        node.node_id(),         absl::StrCat(compute.lane()),
        compute.record(),       RegimeText(compute.regime()),
        StateText(table.state), AgeText(compute.measured_unix_ms(), now)};
    const bool known =
        table.state == ConstantState::kMeasured || table.state == ConstantState::kStale;
    for (const Shown& at : kShown) {
      cells.push_back(known ? Micros(table.table.UsAt(at.rows, at.tokens)) : "-");
    }
    text.Add(std::move(cells));
    to.push_back(ComputeJson(compute, table.state));
  }
}

template <ConstantKind Kind>
std::string ConstantText(const Constant<Kind>& constant) {
  if (constant.state == ConstantState::kMissing) return "-";
  if (constant.state == ConstantState::kQuarantined) return "quarantined";
  return Micros(constant.value);
}

template <ConstantKind Kind>
json ConstantJson(const Constant<Kind>& constant) {
  json shown = {{"state", StateText(constant.state)}, {"usable", constant.Usable()}};
  if (constant.state != ConstantState::kMissing) shown["value"] = constant.value;
  return shown;
}

void AddLinks(const v1::NodeCosts& node, absl::Time now, TextTable& text, json& to) {
  for (const v1::LinkCosts& message : node.links()) {
    v1::NodeCosts one = HeadOf(node);
    *one.add_links() = message;
    const NodeCosts read = FromProto(one, now, Generation{}).costs;
    const PairConstants& pair = read.links.front().constants;
    text.Add({node.node_id(), message.peer(), StateText(pair.probe_us.state),
              AgeText(message.measured_unix_ms(), now), ConstantText(pair.probe_us),
              ConstantText(pair.out_bytes_per_us), ConstantText(pair.in_bytes_per_us),
              ConstantText(pair.handshake_us), ConstantText(pair.range_us)});
    to.push_back({{"peer", message.peer()},
                  {"measured_unix_ms", message.measured_unix_ms()},
                  {"probe_us", ConstantJson(pair.probe_us)},
                  {"out_bytes_per_us", ConstantJson(pair.out_bytes_per_us)},
                  {"in_bytes_per_us", ConstantJson(pair.in_bytes_per_us)},
                  {"handshake_us", ConstantJson(pair.handshake_us)},
                  {"range_us", ConstantJson(pair.range_us)}});
  }
}

void AddLines(const std::string& head, const std::vector<std::string>& lines, std::string& text) {
  for (const std::string& line : lines) absl::StrAppend(&text, head, line, "\n");
}

}  // namespace

View CostsView(const v1::CostsResponse& costs, absl::Time now) {
  std::vector<std::string> heads = {"NODE", ">LANE", "RECORD", "DEVICE", "STATE", ">AGE"};
  for (const Shown& at : kShown) heads.push_back(absl::StrCat(">", at.rows, "x", at.tokens));
  TextTable compute(heads);
  TextTable links({"NODE", "TO", "STATE", ">AGE", ">PROBE us", ">OUT bytes/us", ">IN bytes/us",
                   ">HANDSHAKE us", ">RANGE us"});
  View view;
  view.json = {{"every_node", costs.every_node()},
               {"calibrating", costs.calibrating()},
               {"nodes", json::array()}};
  size_t table_count = 0;
  size_t link_count = 0;
  for (const v1::NodeCosts& node : costs.nodes()) {
    json shown = {{"node", node.node_id()}, {"compute", json::array()}, {"links", json::array()}};
    AddCompute(node, now, compute, shown["compute"]);
    AddLinks(node, now, links, shown["links"]);
    table_count += static_cast<size_t>(node.compute_size());
    link_count += static_cast<size_t>(node.links_size());
    view.json["nodes"].push_back(std::move(shown));
  }
  const std::vector<std::string> quarantined(costs.quarantined().begin(),
                                             costs.quarantined().end());
  const std::vector<std::string> troubles(costs.troubles().begin(), costs.troubles().end());
  view.json["quarantined"] = quarantined;
  view.json["troubles"] = troubles;

  if (table_count + link_count == 0) absl::StrAppend(&view.text, "nothing was measured yet\n");
  if (table_count > 0) {
    absl::StrAppend(&view.text, "attention, us at rows x tokens in one layer\n",
                    compute.ToString());
  }
  if (link_count > 0) absl::StrAppend(&view.text, "links\n", links.ToString());
  if (costs.calibrating()) absl::StrAppend(&view.text, "this node is measuring\n");
  if (!costs.every_node()) {
    absl::StrAppend(&view.text, "this node knows its own costs only: ask the others too\n");
  }
  AddLines("not believed: ", quarantined, view.text);
  AddLines("not measured: ", troubles, view.text);
  return view;
}

View CalibrateView(const v1::CalibrateResponse& measured, absl::Time now) {
  v1::CostsResponse costs;
  if (measured.costs().compute_size() + measured.costs().links_size() > 0) {
    *costs.add_nodes() = measured.costs();
  }
  costs.set_every_node(true);
  *costs.mutable_troubles() = measured.troubles();
  View view = CostsView(costs, now);
  absl::StrAppend(&view.text, "took ", Fixed(static_cast<double>(measured.took_ms()) / 1000, 1),
                  " s\n");
  view.json.erase("every_node");
  view.json.erase("calibrating");
  view.json["took_ms"] = measured.took_ms();
  return view;
}

}  // namespace latentd
