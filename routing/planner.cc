#include "routing/planner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "routing/plan_check.h"
#include "routing/plan_state.h"

namespace latentd {
namespace {

using Choices = std::array<uint8_t, kMaxPlanParts>;

class Planner {
 public:
  Planner(const PlanRequest& request, std::span<const PlanHolder> holders,
          const RequesterConstants& requester)
      : request_(request), holders_(holders) {
    prices_.Reset(request, holders, requester);
  }

  absl::Status Run(const Plan* previous, double keep_margin, Plan& plan);

 private:
  struct Seen {
    PlanCost cost;
    double late_us;  // the first step beyond the deadline
  };

  size_t parts() const { return request_.parts.size(); }
  bool MustHold(size_t part) const { return request_.parts[part].replica_count == 0; }

  void Order();
  std::span<const uint8_t> Replicas(size_t part) const {
    return {replicas_[part].data(), request_.parts[part].replica_count};
  }
  absl::Status Start(PlanState& state) const;
  uint8_t CheapestReplica(const PlanState& state, size_t part) const;
  bool Separate() const;
  size_t PlansToTry() const;

  Seen See(const PlanCost& cost) const;
  bool Better(const Seen& a, const Seen& b) const {
    return a.late_us != b.late_us ? a.late_us < b.late_us : a.cost.total_us < b.cost.total_us;
  }
  bool Try(const PlanState& state);
  bool CannotWin(double setup_us, double layer_us) const;

  void HoldSlowestFirst(PlanState state);
  void TryAll(PlanState state);
  void Improve(PlanState state);
  bool HoldingAllIsBest() const;
  bool TryPair(PlanState& state, double slowest_us);
  bool TryPart(PlanState& state, size_t part, double slowest_us);

  const PartChoice* Before(const Plan& previous, size_t part) const;
  std::optional<Choices> Carried(const Plan& previous) const;
  bool Keep(const Seen& kept, double margin) const;
  void Write(const Choices& choices, Plan& plan) const;

  const PlanRequest& request_;
  std::span<const PlanHolder> holders_;
  PlanPrices prices_;
  // Parts by what no order of the arguments changes, large ones first, and their replicas by the
  // holder's id.
  std::array<uint8_t, kMaxPlanParts> order_;
  std::array<std::array<uint8_t, kMaxPartReplicas>, kMaxPlanParts> replicas_;
  // Parts by what they take when all are routed to.
  std::array<uint8_t, kMaxPlanParts> slowest_first_;
  Choices best_choices_;
  Seen best_;
  bool any_ = false;
};

void Planner::Order() {
  for (size_t i = 0; i < parts(); ++i) order_[i] = static_cast<uint8_t>(i);
  std::sort(order_.begin(), order_.begin() + parts(), [this](uint8_t a, uint8_t b) {
    const PlanPart& x = request_.parts[a];
    const PlanPart& y = request_.parts[b];
    return x.tokens != y.tokens ? x.tokens > y.tokens : x.id < y.id;
  });
  for (size_t i = 0; i < parts(); ++i) {
    replicas_[i] = request_.parts[i].replicas;
    if (request_.parts[i].replica_count < 2) continue;
    std::sort(replicas_[i].begin(), replicas_[i].begin() + request_.parts[i].replica_count,
              [this](uint8_t a, uint8_t b) { return holders_[a].id < holders_[b].id; });
  }
}

// The replica whose round trip is the shortest with this part on top of what it has already.
uint8_t Planner::CheapestReplica(const PlanState& state, size_t part) const {
  const std::span<const uint8_t> replicas = Replicas(part);
  uint8_t best = replicas[0];
  if (replicas.size() == 1) return best;
  double best_us = std::numeric_limits<double>::infinity();
  for (const uint8_t holder : replicas) {
    const double us = state.HolderUsWith(holder, request_.parts[part]);
    if (us >= best_us) continue;
    best = holder;
    best_us = us;
  }
  return best;
}

// Routes to every part that has a replica and holds the others.
absl::Status Planner::Start(PlanState& state) const {
  for (size_t i = 0; i < parts(); ++i) {
    const size_t part = order_[i];
    if (!MustHold(part)) continue;
    const PlanPart& what = request_.parts[part];
    if (!what.may_recompute) {
      return absl::FailedPreconditionError(
          absl::StrCat("plan: part ", what.id,
                       " has no replica in sync and the requester cannot compute it anew"));
    }
    if (!state.FitsHeld(part)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("plan: part ", what.id, " has no replica in sync and needs ",
                       prices_.CacheBytes(what), " bytes of the requester's cache, which has ",
                       request_.free_cache_bytes - state.cache_bytes(), " free"));
    }
    state.Assign(part, kHeld);
  }
  for (size_t i = 0; i < parts(); ++i) {
    const size_t part = order_[i];
    if (!MustHold(part)) state.Assign(part, CheapestReplica(state, part));
  }
  return absl::OkStatus();
}

// Whether the proof in the header holds: no holder serves two parts, and holding a part costs no
// less than its partials' merge.
bool Planner::Separate() const {
  uint64_t used = 0;
  const double merge_us = prices_.merge_us() * prices_.horizon_layers();
  for (size_t i = 0; i < parts(); ++i) {
    uint64_t own = 0;
    for (const uint8_t holder : Replicas(i)) own |= uint64_t{1} << holder;
    if ((used & own) != 0) return false;
    used |= own;
    if (prices_.hold(i).possible && !MustHold(i) && prices_.hold(i).us < merge_us) return false;
  }
  return true;
}

// kMaxTriedPlans + 1 if there are more.
size_t Planner::PlansToTry() const {
  size_t plans = 1;
  for (size_t i = 0; i < parts() && plans <= kMaxTriedPlans; ++i) {
    if (MustHold(i)) continue;
    plans *= request_.parts[i].replica_count + (prices_.hold(i).possible ? 1 : 0);
  }
  return std::min(plans, kMaxTriedPlans + 1);
}

Planner::Seen Planner::See(const PlanCost& cost) const {
  const bool bounded = request_.deadline_us > 0;
  return {cost, bounded ? std::max(0.0, cost.first_step_us - request_.deadline_us) : 0};
}

bool Planner::Try(const PlanState& state) {
  const Seen seen = See(state.Cost());
  if (any_ && !Better(seen, best_)) return false;
  any_ = true;
  best_ = seen;
  std::copy_n(state.choices().begin(), parts(), best_choices_.begin());
  return true;
}

// No plan whose setup and layer take at least that long is better than the best one seen.
bool Planner::CannotWin(double setup_us, double layer_us) const {
  const double first_step_us = setup_us + prices_.layers() * layer_us;
  const double late_us =
      request_.deadline_us > 0 ? std::max(0.0, first_step_us - request_.deadline_us) : 0;
  if (late_us != best_.late_us) return late_us > best_.late_us;
  return setup_us + prices_.horizon_layers() * layer_us >= best_.cost.total_us;
}

void Planner::HoldSlowestFirst(PlanState state) {
  std::array<double, kMaxPlanParts> us;
  std::array<uint8_t, kMaxPlanParts> rank;  // in order_, which decides between equal times
  for (size_t i = 0; i < parts(); ++i) {
    const size_t part = order_[i];
    slowest_first_[i] = order_[i];
    rank[part] = static_cast<uint8_t>(i);
    us[part] = state.choice(part) == kHeld ? 0 : state.HolderUs(state.choice(part));
  }
  std::sort(slowest_first_.begin(), slowest_first_.begin() + parts(), [&](uint8_t a, uint8_t b) {
    return us[a] != us[b] ? us[a] > us[b] : rank[a] < rank[b];
  });
  for (size_t i = 0; i < parts(); ++i) {
    const size_t part = slowest_first_[i];
    if (state.choice(part) == kHeld || !state.FitsHeld(part)) continue;
    if (CannotWin(state.SetupIf(part, kHeld), 0)) continue;
    state.Assign(part, kHeld);
    Try(state);
  }
}

// All choices of all parts, as an odometer counts.
void Planner::TryAll(PlanState state) {
  std::array<uint8_t, kMaxPlanParts> digit;
  for (size_t n = 0; n < parts(); ++n) {
    const size_t i = order_[n];
    digit[i] = 0;
    if (!MustHold(i)) state.Assign(i, replicas_[i][0]);
  }
  const auto options = [this](size_t part) {
    if (MustHold(part)) return 1;
    return request_.parts[part].replica_count + (prices_.hold(part).possible ? 1 : 0);
  };
  while (true) {
    if (state.cache_bytes() <= request_.free_cache_bytes) Try(state);
    size_t i = 0;
    for (; i < parts(); ++i) {
      const size_t part = order_[i];
      if (options(part) == 1) continue;
      digit[part] = static_cast<uint8_t>(digit[part] + 1);
      const bool wraps = digit[part] == options(part);
      if (wraps) digit[part] = 0;
      const std::span<const uint8_t> replicas = Replicas(part);
      state.Assign(part, digit[part] < replicas.size() ? replicas[digit[part]] : kHeld);
      if (!wraps) break;
    }
    if (i == parts()) return;
  }
}

// Leaves the part at the choice that is best with all others as they are.
bool Planner::TryPart(PlanState& state, size_t part, double slowest_us) {
  if (MustHold(part)) return false;
  const std::span<const uint8_t> replicas = Replicas(part);
  const uint8_t before = state.choice(part);
  uint8_t best = before;
  for (size_t r = 0; r <= replicas.size(); ++r) {
    const uint8_t choice = r < replicas.size() ? replicas[r] : kHeld;
    if (choice == before || (choice == kHeld && !state.FitsHeld(part))) continue;
    if (CannotWin(state.SetupIf(part, choice), state.LeastLayerIf(part, choice, slowest_us)))
      continue;
    const Seen seen = See(state.CostIf(part, choice));
    if (!Better(seen, best_)) continue;
    best_ = seen;
    best = choice;
  }
  if (best == before) return false;
  state.Assign(part, best);
  std::copy_n(state.choices().begin(), parts(), best_choices_.begin());
  return true;
}

// Moves a part off what makes a layer as long as it is, though that alone is for the worse, and then
// another off what does so now: the way out where two have to change places.
bool Planner::TryPair(PlanState& state, double slowest_us) {
  size_t tries_left = kMaxTriedPlans;
  const auto is_slowest = [&state](size_t part, double us) {
    const uint8_t choice = state.choice(part);
    return us == (choice == kHeld ? state.HeldAttentionUs() : state.HolderUs(choice));
  };
  for (size_t i = 0; i < parts(); ++i) {
    const size_t part = slowest_first_[i];
    if (MustHold(part) || !is_slowest(part, slowest_us)) continue;
    const std::span<const uint8_t> replicas = Replicas(part);
    const uint8_t before = state.choice(part);
    for (size_t r = 0; r <= replicas.size(); ++r) {
      const uint8_t choice = r < replicas.size() ? replicas[r] : kHeld;
      if (choice == before || (choice == kHeld && !state.FitsHeld(part))) continue;
      state.Assign(part, choice);
      const double now_slowest_us = state.SlowestUs();
      for (size_t j = 0; j < parts(); ++j) {
        const size_t other = slowest_first_[j];
        if (other == part || !is_slowest(other, now_slowest_us)) continue;
        if (tries_left-- == 0) return false;
        if (TryPart(state, other, now_slowest_us)) return true;
      }
      state.Assign(part, before);
    }
  }
  return false;
}

// Whether nothing is routed in the best plan seen, and the quickest round trip there is would make
// any other plan worse, whatever else it did for nothing.
bool Planner::HoldingAllIsBest() const {
  double quickest_us = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < parts(); ++i) {
    if (best_choices_[i] != kHeld) return false;
    const PlanPart& part = request_.parts[i];
    for (const uint8_t holder : Replicas(i)) {
      quickest_us = std::min(quickest_us, prices_.route(holder).RoundTripUs(
                                              static_cast<double>(part.tokens), part.chunks));
    }
  }
  return CannotWin(0, quickest_us + prices_.merge_us());
}

// Goes round the parts until no change of a single one, nor of two as above, is for the better, or
// there were too many.
void Planner::Improve(PlanState state) {
  for (size_t i = 0; i < parts(); ++i) state.Assign(order_[i], best_choices_[order_[i]]);
  double slowest_us = state.SlowestUs();
  size_t changes_left = 2 * parts();
  size_t tried_since = 0;  // the last change
  for (size_t i = 0; changes_left > 0; i = (i + 1) % parts()) {
    const bool pair = tried_since == parts();
    ++tried_since;
    if (!(pair ? TryPair(state, slowest_us) : TryPart(state, slowest_first_[i], slowest_us))) {
      if (pair) return;
      continue;
    }
    slowest_us = state.SlowestUs();
    tried_since = pair ? 0 : 1;
    --changes_left;
  }
}

// What the part's choice was before; null: it is a new part.
const PartChoice* Planner::Before(const Plan& previous, size_t part) const {
  const std::span<const PartChoice> all = previous.Choices();
  const uint64_t id = request_.parts[part].id;
  if (part < all.size() && all[part].part_id == id) return &all[part];
  for (const PartChoice& choice : all)
    if (choice.part_id == id) return &choice;
  return nullptr;
}

// The previous plan's choices, and the best plan's for new parts; nothing if one of them cannot be
// any more.
std::optional<Choices> Planner::Carried(const Plan& previous) const {
  Choices choices = best_choices_;
  for (size_t i = 0; i < parts(); ++i) {
    const PartChoice* before = Before(previous, i);
    if (before == nullptr) continue;
    if (before->primitive != Primitive::kRoute) {
      if (!prices_.hold(i).possible) return std::nullopt;
      choices[i] = kHeld;
      continue;
    }
    const std::span<const uint8_t> replicas = Replicas(i);
    const auto replica = std::find_if(replicas.begin(), replicas.end(), [&](uint8_t holder) {
      return holders_[holder].id == before->holder_id;
    });
    if (replica == replicas.end()) return std::nullopt;
    choices[i] = *replica;
  }
  return choices;
}

bool Planner::Keep(const Seen& kept, double margin) const {
  if (kept.late_us > 0) {
    // Of two that are late the sooner one, unless it is sooner by next to nothing.
    return best_.late_us > 0 && best_.cost.first_step_us >= kept.cost.first_step_us * (1 - margin);
  }
  // One that meets the deadline by a hair would have to be left again.
  const bool surely_in_time =
      request_.deadline_us <= 0 || best_.cost.first_step_us <= request_.deadline_us * (1 - margin);
  return !surely_in_time || best_.cost.total_us >= kept.cost.total_us * (1 - margin);
}

void Planner::Write(const Choices& choices, Plan& plan) const {
  plan.parts = parts();
  plan.cache_bytes = 0;
  for (size_t i = 0; i < parts(); ++i) {
    PartChoice& choice = plan.choices[i];
    choice = {.part_id = request_.parts[i].id};
    const HoldPrice& hold = prices_.hold(i);
    if (choices[i] != kHeld) {
      choice.primitive = Primitive::kRoute;
      choice.holder = choices[i];
    } else {
      choice.primitive = hold.primitive;
      choice.holder = hold.holder;
      plan.cache_bytes += hold.cache_bytes;
    }
    if (choice.primitive != Primitive::kLocal) choice.holder_id = holders_[choice.holder].id;
  }
}

absl::Status Planner::Run(const Plan* previous, double keep_margin, Plan& plan) {
  Order();
  for (size_t i = 0; previous != nullptr && i < parts(); ++i) {
    if (const PartChoice* before = Before(*previous, i)) prices_.KeepHold(i, *before, keep_margin);
  }
  PlanState start(prices_);
  if (absl::Status status = Start(start); !status.ok()) return status;
  Try(start);
  if (Separate()) {
    HoldSlowestFirst(start);
  } else if (PlansToTry() <= kMaxTriedPlans) {
    TryAll(start);
  } else {
    HoldSlowestFirst(start);
    if (!HoldingAllIsBest()) Improve(start);
  }
  Seen chosen = best_;
  Choices choices = best_choices_;
  plan.reason = chosen.late_us > 0         ? PlanReason::kSoonest
                : request_.deadline_us > 0 ? PlanReason::kCheapestInTime
                                           : PlanReason::kCheapest;
  const auto carried = previous != nullptr ? Carried(*previous) : std::nullopt;
  if (carried) {
    PlanState kept = start;
    for (size_t i = 0; i < parts(); ++i) kept.Assign(order_[i], (*carried)[order_[i]]);
    const Seen seen = See(kept.Cost());
    const bool same = std::equal(choices.begin(), choices.begin() + parts(), carried->begin());
    if (!same && kept.cache_bytes() <= request_.free_cache_bytes && Keep(seen, keep_margin)) {
      chosen = seen;
      choices = *carried;
      plan.reason = PlanReason::kKept;
    }
  }
  Write(choices, plan);
  plan.cost = chosen.cost;
  plan.meets_deadline = chosen.late_us == 0;
  return absl::OkStatus();
}

}  // namespace

absl::Status MakePlan(const PlanRequest& request, std::span<const PlanHolder> holders,
                      const RequesterConstants& requester, const Plan* previous,
                      const PlannerOptions& options, Plan& plan) {
  if (absl::Status status = CheckPlanRequest(request, holders); !status.ok()) return status;
  if (!(options.keep_margin >= 0 && options.keep_margin < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan: keep margin ", options.keep_margin, ", allowed 0..1"));
  }
  return Planner(request, holders, requester).Run(previous, options.keep_margin, plan);
}

}  // namespace latentd
