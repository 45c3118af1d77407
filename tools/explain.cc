#include "tools/explain.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cost_view.h"
#include "client/pair_probe.h"
#include "routing/costs_proto.h"
#include "routing/planner.h"
#include "tools/calibration.h"

namespace latentd {
namespace {

// Constants that were measured for this one plan do not grow old in it.
constexpr absl::Duration kStaleAfter = absl::Hours(1);
constexpr uint32_t kRounds = 3;
constexpr uint32_t kMostProbedTokens = 256;
constexpr uint32_t kMostRows = 256;
constexpr uint32_t kMostTokens = 2048;

struct Part {
  PlanPart plan;
  ChunkRange probe;  // of one of its chunks
};

class Explanation {
 public:
  Explanation(Client& client, const ExplainOptions& options)
      : client_(client), options_(options), view_(kStaleAfter) {}

  absl::StatusOr<ExplainReport> Make() {
    if (options_.rows == 0 || options_.steps == 0) {
      return absl::InvalidArgumentError(absl::StrCat("rows ", options_.rows, ", steps ",
                                                     options_.steps, ": expected at least 1"));
    }
    if (absl::Status s = FindParts(); !s.ok()) return s;
    if (absl::Status s = Measure(); !s.ok()) return s;
    std::vector<PlanPart> parts;
    for (const Part& part : parts_) parts.push_back(part.plan);
    std::vector<PlanHolder> holders;
    for (const NodeId& node : report_.nodes) holders.push_back(view_.At(node, absl::Now()));
    const Layout layout = client_.layout();
    const PlanRequest request = {.layout = &layout,
                                 .rows = options_.rows,
                                 .steps = options_.steps,
                                 .free_cache_bytes = options_.cache_bytes,
                                 .deadline_us = options_.deadline_us,
                                 .parts = parts};
    const auto plan = std::make_unique<Plan>();
    if (auto s = MakePlan(request, holders, requester_, nullptr, {}, *plan); !s.ok()) return s;
    auto explained = ExplainPlan(request, holders, requester_, *plan);
    if (!explained.ok()) return explained.status();
    report_.plan = *std::move(explained);
    return std::move(report_);
  }

 private:
  // Chunks that the same nodes hold are one part.
  absl::Status FindParts() {
    if (options_.chunks.empty()) return absl::InvalidArgumentError("no chunks");
    auto stats = client_.Stat(options_.chunks, options_.timeout);
    if (!stats.ok()) return stats.status();
    const auto table = client_.table();
    std::map<std::vector<NodeIndex>, size_t> known;
    std::vector<std::string> absent;
    for (const ChunkStat& stat : *stats) {
      if (!stat.present || stat.tokens == 0) {
        absent.push_back(ToString(stat.id));
        continue;
      }
      const auto holders = table->HoldersOf(stat.id.slot());
      const auto [it, is_new] = known.try_emplace({holders.begin(), holders.end()}, parts_.size());
      if (is_new) parts_.push_back(NewPart(*table, stat));
      Part& part = parts_[it->second];
      part.plan.tokens += stat.tokens;
      part.plan.chunks += is_new ? 0 : 1;
      part.plan.ranges = part.plan.chunks;
    }
    if (absent.empty()) return absl::OkStatus();
    return absl::NotFoundError(
        absl::StrCat("no holder has records of ", absl::StrJoin(absent, ", ")));
  }

  Part NewPart(const RoutingTable& table, const ChunkStat& stat) {
    Part part;
    part.plan.id = static_cast<uint64_t>(stat.id.slot());
    part.plan.position_shift = options_.position_shift;
    part.plan.may_recompute = options_.prefill_us > 0;
    part.probe = {.chunk = stat.id,
                  .layers = client_.layout().layers,
                  .tokens = std::min(stat.tokens, kMostProbedTokens)};
    for (const NodeIndex index : table.HoldersOf(stat.id.slot())) {
      if (part.plan.replica_count == kMaxPartReplicas) break;
      const NodeId& node = table.node(index).id;
      auto at = std::find(report_.nodes.begin(), report_.nodes.end(), node);
      if (at == report_.nodes.end()) at = report_.nodes.insert(at, node);
      part.plan.replicas[part.plan.replica_count++] =
          static_cast<uint8_t>(at - report_.nodes.begin());
    }
    return part;
  }

  absl::Status Measure() {
    for (const v1::NodeCosts& message : options_.costs) {
      const auto index = client_.table()->FindNode(message.node_id());
      const Generation generation =
          index.has_value() ? client_.table()->node(*index).generation : Generation{};
      const NodeCostsReading reading = FromProto(message, absl::Now(), generation);
      view_.Take(reading.costs);
      for (const std::string& trouble : reading.quarantined) report_.notes.push_back(trouble);
    }
    if (options_.calibrate) {
      if (absl::Status s = Calibrated(); !s.ok()) return s;
    } else {
      MeasureHere();
    }
    if (options_.prefill_us > 0) {
      requester_.prefill_us_per_token =
          MeasuredConstant<ConstantKind::kPrefill>(options_.prefill_us);
    }
    for (const NodeId& node : report_.nodes) MeasureLink(node);
    const absl::Status vetted = Vet("this requester", requester_);
    if (!vetted.ok()) Note("this requester", vetted);
    return absl::OkStatus();
  }

  CalibrationOptions Grid() const {
    CalibrationOptions grid;
    std::erase_if(grid.rows, [](uint32_t rows) { return rows > kMostRows; });
    return grid;
  }

  // This machine's own attention, merge and splice.
  void MeasureHere() {
    const CalibrationOptions grid = Grid();
    LocalAttention local(client_.layout(), kMostRows, kMostTokens, 1);
    CalibrationSamples samples;
    AddLocalSamples(local, {}, grid, samples);
    const auto calibration = Calibrate(client_.layout(), {}, samples);
    if (calibration.ok()) {
      requester_ = calibration->requester;
    } else {
      Note("this requester", calibration.status());
    }
  }

  // And the nodes' attention, over a chunk on each that goes with the session.
  absl::Status Calibrated() {
    const CalibrationOptions grid = Grid();
    const auto nodes = static_cast<uint32_t>(client_.table()->nodes().size());
    auto probe = AttendProbe::Create(client_, {.holders = nodes,
                                               .most_rows = kMostRows,
                                               .most_tokens = kMostTokens,
                                               .layers = 1,
                                               .timeout = options_.timeout});
    if (!probe.ok()) return probe.status();
    LocalAttention local(client_.layout(), kMostRows, kMostTokens, 1);
    CalibrationSamples samples;
    for (uint32_t round = 0; round < kRounds; ++round) {
      if (auto s = AddSamples(*probe, local, grid, samples); !s.ok()) return s;
    }
    const auto calibration = Calibrate(client_.layout(), probe->nodes(), samples);
    if (!calibration.ok()) return calibration.status();
    requester_ = calibration->requester;
    for (size_t i = 0; i < calibration->names.size(); ++i) {
      view_.SetCompute(calibration->names[i], calibration->nodes[i], Generation{}, absl::Now());
    }
    return absl::OkStatus();
  }

  void MeasureLink(const NodeId& node) {
    const PairProbeOptions probe = {
        .repeats = 16, .most_bytes = uint64_t{48} << 20, .timeout = options_.timeout};
    const auto timings = TimeLink(client_, {.node = node}, probe);
    auto pair = timings.ok() ? FitPair(node, *timings) : timings.status();
    if (!pair.ok()) return Note(absl::StrCat("link to ", node), pair.status());
    if (absl::Status s = MeasureFetch(node, probe, *pair); !s.ok()) {
      Note(absl::StrCat("fetch from ", node), s);
    }
    view_.SetLink(node, *pair, Generation{}, absl::Now());
    // Its answer tells how long requests wait there.
    const auto answer = client_.Echo({.node = node}, {}, 0, options_.timeout);
    if (answer.ok()) view_.OnAnswer(*answer, absl::Now());
  }

  // Of a part that nobody else could answer, or else the first.
  absl::Status MeasureFetch(const NodeId& node, const PairProbeOptions& probe,
                            PairConstants& pair) {
    constexpr uint32_t kLeastTokens = 8;
    for (const Part& part : parts_) {
      if (report_.nodes[part.plan.replicas[0]] != node || part.probe.tokens < kLeastTokens) {
        continue;
      }
      const auto timings = TimeFetch(client_, part.probe, probe);
      if (!timings.ok()) return timings.status();
      Constant<ConstantKind::kCopyRate> copy;
      if (absl::Status s = FitFetch(node, *timings, pair, copy); !s.ok()) return s;
      // The dearest of the holders'.
      if (requester_.copy_bytes_per_us.state != ConstantState::kMeasured ||
          copy.value < requester_.copy_bytes_per_us.value) {
        requester_.copy_bytes_per_us = copy;
      }
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(
        absl::StrCat("it is first holder of none of these chunks of ", kLeastTokens, " tokens"));
  }

  void Note(absl::string_view what, const absl::Status& status) {
    report_.notes.push_back(absl::StrCat(what, ": ", std::string(status.message())));
  }

  Client& client_;
  const ExplainOptions& options_;
  CostView view_;
  RequesterConstants requester_;
  std::vector<Part> parts_;
  ExplainReport report_;
};

nlohmann::json TermsJson(const std::vector<ExplainedTerm>& terms) {
  nlohmann::json all = nlohmann::json::object();
  for (const ExplainedTerm& term : terms) all[term.name] = term.us;
  return all;
}

}  // namespace

std::string ExplainReport::ToText() const {
  std::string text = latentd::ToText(plan, [this](uint64_t id) {
    for (const NodeId& node : nodes) {
      if (PlanIdOf(node) == id) return node;
    }
    return std::string();
  });
  for (const std::string& note : notes) absl::StrAppend(&text, "note: ", note, "\n");
  return text;
}

nlohmann::json ExplainReport::ToJson() const {
  nlohmann::json parts = nlohmann::json::array();
  for (const ExplainedPart& part : plan.parts) {
    nlohmann::json alternatives = nlohmann::json::array();
    for (const ExplainedAlternative& one : part.alternatives) {
      nlohmann::json entry = {{"primitive", PrimitiveName(one.primitive)},
                              {"chosen", one.chosen},
                              {"terms_us", TermsJson(one.terms)},
                              {"once_us", one.once_us},
                              {"layer_us", one.layer_us},
                              {"horizon_us", one.horizon_us},
                              {"excluded", one.excluded},
                              {"doubts", one.doubts}};
      for (const NodeId& node : nodes) {
        if (one.holder_id == PlanIdOf(node)) entry["node"] = node;
      }
      alternatives.push_back(std::move(entry));
    }
    parts.push_back({{"slot", part.id}, {"tokens", part.tokens}, {"alternatives", alternatives}});
  }
  return {{"parts", parts},
          {"layer_terms_us", TermsJson(plan.layer_terms)},
          {"setup_us", plan.cost.setup_us},
          {"layer_us", plan.cost.layer_us},
          {"first_step_us", plan.cost.first_step_us},
          {"total_us", plan.cost.total_us},
          {"steps", plan.steps},
          {"layers", plan.layers},
          {"cache_bytes", plan.cache_bytes},
          {"reason", plan.reason},
          {"notes", notes}};
}

absl::StatusOr<ExplainReport> ExplainChunks(Client& client, const ExplainOptions& options) {
  return Explanation(client, options).Make();
}

}  // namespace latentd
