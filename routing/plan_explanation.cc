#include "routing/plan_explanation.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "routing/cost_model.h"
#include "routing/plan_check.h"
#include "routing/plan_state.h"
#include "routing/planner.h"

namespace latentd {
namespace {

class Doubts {
 public:
  void Add(const char* name, ConstantState state) {
    if (state == ConstantState::kMeasured) return;
    absl::StrAppend(&text_, text_.empty() ? "" : ", ", name, " ", ConstantStateName(state));
  }
  template <ConstantKind Kind>
  void Add(const char* name, const Constant<Kind>& constant) {
    Add(name, constant.state);
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

class Explainer {
 public:
  Explainer(const PlanRequest& request, std::span<const PlanHolder> holders,
            const RequesterConstants& requester, const Plan& plan)
      : request_(request), holders_(holders), requester_(requester), plan_(plan) {
    prices_->Reset(request, holders, requester);
  }

  PlanExplanation Explain() const {
    PlanExplanation all{.cost = plan_.cost,
                        .deadline_us = request_.deadline_us,
                        .steps = request_.steps,
                        .layers = request_.layout->layers,
                        .cache_bytes = plan_.cache_bytes,
                        .free_cache_bytes = request_.free_cache_bytes};
    PlanState state(*prices_);
    for (size_t i = 0; i < plan_.parts; ++i) {
      const PartChoice& choice = plan_.choices[i];
      state.Assign(i, choice.primitive == Primitive::kRoute ? choice.holder : kHeld);
      all.parts.push_back(ExplainPart(i));
    }
    double waiting_us = 0;
    for (size_t i = 0; i < holders_.size(); ++i)
      waiting_us = std::max(waiting_us, state.HolderUs(i));
    const double here_us = state.HeldAttentionUs();
    all.layer_terms = {{"slowest holder", waiting_us},
                       {"attention here", here_us},
                       {"merge", plan_.cost.layer_us - std::max(waiting_us, here_us)}};
    all.reason = Reason(all);
    return all;
  }

 private:
  ExplainedPart ExplainPart(size_t i) const {
    const PlanPart& part = request_.parts[i];
    ExplainedPart explained{
        .id = part.id, .tokens = part.tokens, .cache_bytes = prices_->CacheBytes(part)};
    for (size_t r = 0; r < part.replica_count; ++r) {
      explained.alternatives.push_back(Route(part, part.replicas[r]));
      explained.alternatives.push_back(Fetch(part, part.replicas[r]));
    }
    explained.alternatives.push_back(Local(part));
    const PartChoice& choice = plan_.choices[i];
    for (ExplainedAlternative& one : explained.alternatives)
      one.chosen = one.primitive == choice.primitive && one.holder_id == choice.holder_id;
    return explained;
  }

  ExplainedAlternative Route(const PlanPart& part, size_t holder) const {
    const RouteTerms terms =
        prices_->route(holder).Terms(static_cast<double>(part.tokens), part.chunks);
    ExplainedAlternative one{.primitive = Primitive::kRoute, .holder_id = holders_[holder].id};
    one.terms = {{"probe", terms.probe_us},   {"transfer", terms.transfer_us},
                 {"queue", terms.queue_us},   {"compute", terms.compute_us},
                 {"return", terms.return_us}, {"merge", terms.merge_us}};
    one.layer_us = terms.RoundTripUs() + terms.merge_us;
    one.horizon_us = prices_->horizon_layers() * one.layer_us;
    Doubts doubts;
    const PairConstants& pair = holders_[holder].pair;
    doubts.Add("probe", pair.probe_us);
    doubts.Add("out_bandwidth", pair.out_bytes_per_us);
    doubts.Add("in_bandwidth", pair.in_bytes_per_us);
    doubts.Add("queue", holders_[holder].load.queue_us);
    doubts.Add("compute", ComputeState(*holders_[holder].node));
    doubts.Add("merge", requester_.merge_us);
    one.doubts = doubts.Take();
    if (holders_[holder].load.saturated)
      absl::StrAppend(&one.doubts, one.doubts.empty() ? "" : ", ", "holder is saturated");
    return one;
  }

  ExplainedAlternative Fetch(const PlanPart& part, size_t holder) const {
    const FetchTerms terms = prices_->Fetch(part, holder);
    ExplainedAlternative one{.primitive = Primitive::kFetch, .holder_id = holders_[holder].id};
    one.terms = {{"handshake", terms.handshake_us},
                 {"transfer", terms.transfer_us},
                 {"ranges", terms.ranges_us},
                 {"copy", terms.copy_us},
                 {"splice", terms.splice_us}};
    one.excluded = part.may_fetch ? RoomFor(part) : "the part may not be fetched";
    Doubts doubts;
    const PairConstants& pair = holders_[holder].pair;
    doubts.Add("handshake", pair.handshake_us);
    doubts.Add("in_bandwidth", pair.in_bytes_per_us);
    if (terms.ranges_us > 0) doubts.Add("range", pair.range_us);
    if (terms.copy_us > 0) doubts.Add("copy", requester_.copy_bytes_per_us);
    if (terms.splice_us > 0) doubts.Add("splice", requester_.splice_records_per_us);
    FinishHeld(terms.TotalUs(), part, doubts, one);
    return one;
  }

  ExplainedAlternative Local(const PlanPart& part) const {
    ExplainedAlternative one{.primitive = Primitive::kLocal};
    const double us = PricePrefillUs(requester_, part.tokens);
    one.terms = {{"prefill", us}};
    one.excluded =
        part.may_recompute ? RoomFor(part) : "the requester cannot compute the part anew";
    Doubts doubts;
    doubts.Add("prefill", requester_.prefill_us_per_token);
    FinishHeld(us, part, doubts, one);
    return one;
  }

  void FinishHeld(double once_us, const PlanPart& part, Doubts& doubts,
                  ExplainedAlternative& one) const {
    doubts.Add("compute here", ComputeState(requester_.node));
    one.doubts = doubts.Take();
    one.once_us = once_us;
    one.layer_us = prices_->LocalAttentionUs(static_cast<double>(part.tokens));
    one.horizon_us = one.once_us + prices_->horizon_layers() * one.layer_us;
  }

  ConstantState ComputeState(const NodeConstants& node) const {
    return node.Compute(request_.layout->record_format, ComputeRegime::kLatency).state;
  }

  std::string RoomFor(const PlanPart& part) const {
    const uint64_t bytes = prices_->CacheBytes(part);
    if (bytes <= request_.free_cache_bytes) return "";
    return absl::StrCat("no room: needs ", bytes, " bytes of the requester's cache, ",
                        request_.free_cache_bytes, " are free");
  }

  std::string Reason(const PlanExplanation& all) const {
    int count[3] = {0, 0, 0};
    for (const PartChoice& choice : plan_.Choices()) ++count[static_cast<int>(choice.primitive)];
    std::string text = absl::StrFormat(
        "%d routed, %d fetched, %d local: %.1f us once and %.1f us in each of %d x %d layers, "
        "%.1f us in all; ",
        count[0], count[1], count[2], all.cost.setup_us, all.cost.layer_us, all.steps, all.layers,
        all.cost.total_us);
    switch (plan_.reason) {
      case PlanReason::kCheapest:
        return text + "no plan seen is cheaper";
      case PlanReason::kCheapestInTime:
        return text + InTime(all);
      case PlanReason::kSoonest:
        return text + absl::StrFormat(
                          "no plan ends its first step by the deadline of %.1f us, "
                          "this one is the soonest, at %.1f",
                          all.deadline_us, all.cost.first_step_us);
      case PlanReason::kKept:
        return text + "the previous plan: none is better by the margin";
    }
    return text;
  }

  // Whether the deadline is what decided.
  std::string InTime(const PlanExplanation& all) const {
    PlanRequest patient = request_;
    patient.deadline_us = 0;
    Plan other;
    if (!MakePlan(patient, holders_, requester_, nullptr, {}, other).ok() ||
        other.cost.total_us >= all.cost.total_us) {
      return "no plan seen is cheaper, and it meets the deadline";
    }
    return absl::StrFormat(
        "a plan of %.1f us in all ends its first step at %.1f us, after the deadline of %.1f us; "
        "this one ends it at %.1f us",
        other.cost.total_us, other.cost.first_step_us, all.deadline_us, all.cost.first_step_us);
  }

  const PlanRequest& request_;
  std::span<const PlanHolder> holders_;
  const RequesterConstants& requester_;
  const Plan& plan_;
  std::unique_ptr<PlanPrices> prices_ = std::make_unique<PlanPrices>();
};

absl::Status CheckPlanOf(const PlanRequest& request, std::span<const PlanHolder> holders,
                         const Plan& plan) {
  if (plan.parts != request.parts.size()) {
    return absl::InvalidArgumentError(absl::StrCat("plan: of ", plan.parts, " parts, the request ",
                                                   "has ", request.parts.size()));
  }
  for (size_t i = 0; i < plan.parts; ++i) {
    const PartChoice& choice = plan.choices[i];
    const bool foreign =
        choice.primitive != Primitive::kLocal &&
        (choice.holder >= holders.size() || holders[choice.holder].id != choice.holder_id);
    if (choice.part_id != request.parts[i].id || foreign) {
      return absl::InvalidArgumentError(
          absl::StrCat("plan: choice ", i, " is part ", choice.part_id, " at holder ",
                       choice.holder_id, ", which is not of this request"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PlanExplanation> ExplainPlan(const PlanRequest& request,
                                            std::span<const PlanHolder> holders,
                                            const RequesterConstants& requester, const Plan& plan) {
  if (absl::Status status = CheckPlanRequest(request, holders); !status.ok()) return status;
  if (absl::Status status = CheckPlanOf(request, holders, plan); !status.ok()) return status;
  return Explainer(request, holders, requester, plan).Explain();
}

std::string ToText(const PlanExplanation& explanation, const HolderName& holder_name) {
  const auto name_of = [&](uint64_t id) {
    std::string name = holder_name ? holder_name(id) : "";
    return name.empty() ? absl::StrFormat("%x", id) : name;
  };
  std::string text;
  for (const ExplainedPart& part : explanation.parts) {
    absl::StrAppendFormat(&text, "part %d, %d tokens, %d bytes of cache if held here\n", part.id,
                          part.tokens, part.cache_bytes);
    for (const ExplainedAlternative& one : part.alternatives) {
      absl::StrAppendFormat(&text, "%s %-5s ", one.chosen ? " *" : "  ",
                            PrimitiveName(one.primitive));
      if (one.holder_id != 0) absl::StrAppend(&text, name_of(one.holder_id), " ");
      for (const ExplainedTerm& term : one.terms)
        absl::StrAppendFormat(&text, "%s %.2f  ", term.name, term.us);
      absl::StrAppendFormat(&text, "| once %.1f, a layer %.2f, horizon %.1f us", one.once_us,
                            one.layer_us, one.horizon_us);
      if (!one.excluded.empty()) absl::StrAppend(&text, " | excluded: ", one.excluded);
      if (!one.doubts.empty()) absl::StrAppend(&text, " | ", one.doubts);
      text += '\n';
    }
  }
  text += "a layer:";
  for (const ExplainedTerm& term : explanation.layer_terms)
    absl::StrAppendFormat(&text, " %s %.2f", term.name, term.us);
  absl::StrAppendFormat(&text, " us\n%s\n", explanation.reason);
  return text;
}

}  // namespace latentd
