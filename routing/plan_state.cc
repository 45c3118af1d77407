#include "routing/plan_state.h"

#include <algorithm>

namespace latentd {

void PlanPrices::Reset(const PlanRequest& request, std::span<const PlanHolder> holders,
                       const RequesterConstants& requester) {
  request_ = &request;
  requester_ = &requester;
  holders_ = holders;
  const Layout& layout = *request.layout;
  const double rows = static_cast<double>(request.rows);
  const double merge_us_per_row = requester.merge_us.Usable();
  for (size_t i = 0; i < holders.size(); ++i) {
    routes_[i].Reset(*holders[i].node, holders[i].pair, holders[i].load, merge_us_per_row,
                     layout.geometry(), layout.record_format, rows);
  }
  local_.Reset(requester.node, layout.record_format, rows, 0);
  merge_us_ = merge_us_per_row * rows;
  layers_ = layout.layers;
  horizon_layers_ = layers_ * static_cast<double>(request.steps);
  for (size_t i = 0; i < request.parts.size(); ++i) holds_[i] = CheapestHold(request.parts[i]);
}

FetchTerms PlanPrices::Fetch(const PlanPart& part, size_t holder) const {
  return PriceFetch(holders_[holder].pair, *requester_,
                    {.tokens = part.tokens,
                     .layers = request_->layout->layers,
                     .record_bytes = request_->layout->record_bytes(),
                     .ranges = part.ranges,
                     .shifted = part.position_shift != 0});
}

uint64_t PlanPrices::CacheBytes(const PlanPart& part) const {
  const uint64_t page_tokens = request_->layout->page_tokens;
  const uint64_t pages = (part.tokens + part.chunks * (page_tokens - 1)) / page_tokens;
  return pages * request_->layout->page_bytes();
}

HoldPrice PlanPrices::CheapestHold(const PlanPart& part) const {
  HoldPrice best{.us = 0,
                 .cache_bytes = CacheBytes(part),
                 .primitive = Primitive::kLocal,
                 .holder = 0,
                 .possible = part.may_recompute};
  if (best.possible) best.us = PricePrefillUs(*requester_, part.tokens);
  if (part.may_fetch) {
    for (size_t i = 0; i < part.replica_count; ++i) {
      const uint8_t holder = part.replicas[i];
      const double us = Fetch(part, holder).TotalUs();
      const bool tie = best.possible && best.primitive == Primitive::kFetch && us == best.us &&
                       holders_[holder].id < holders_[best.holder].id;
      if (best.possible && us >= best.us && !tie) continue;
      best.us = us;
      best.primitive = Primitive::kFetch;
      best.holder = holder;
      best.possible = true;
    }
  }
  if (best.cache_bytes > request_->free_cache_bytes) best.possible = false;
  return best;
}

void PlanPrices::KeepHold(size_t part, const PartChoice& before, double margin) {
  HoldPrice& hold = holds_[part];
  const PlanPart& what = request_->parts[part];
  if (!hold.possible || before.primitive == Primitive::kRoute) return;
  HoldPrice kept = hold;
  kept.primitive = before.primitive;
  if (before.primitive == Primitive::kLocal) {
    if (!what.may_recompute) return;
    kept.us = PricePrefillUs(*requester_, what.tokens);
  } else {
    const auto end = what.replicas.begin() + what.replica_count;
    const auto replica = std::find_if(what.replicas.begin(), end, [&](uint8_t holder) {
      return holders_[holder].id == before.holder_id;
    });
    if (!what.may_fetch || replica == end) return;
    kept.holder = *replica;
    kept.us = Fetch(what, *replica).TotalUs();
  }
  if (hold.us >= kept.us * (1 - margin)) hold = kept;
}

PlanState::PlanState(const PlanPrices& prices)
    : prices_(prices),
      held_tokens_(static_cast<double>(prices.request().resident_tokens)),
      held_us_(prices.LocalAttentionUs(held_tokens_)) {
  std::fill_n(choices_.begin(), prices.parts(), kUnassigned);
  const size_t holders = prices.holders().size();
  std::fill_n(holder_us_.begin(), (holders + 3) / 4 * 4, 0);  // SlowestUs takes them by four
  std::fill_n(holder_tokens_.begin(), holders, 0);
  std::fill_n(holder_chunks_.begin(), holders, 0);
  std::fill_n(holder_parts_.begin(), holders, 0);
}

// The holder's round trip with one part more or less, which is not counted as being there.
void PlanState::ShowAt(size_t holder, const PlanPart& part, double sign) {
  const int parts_there = holder_parts_[holder] + (sign > 0 ? 1 : -1);
  holders_used_ += (parts_there != 0 ? 1 : 0) - (holder_parts_[holder] != 0 ? 1 : 0);
  holder_us_[holder] = parts_there == 0
                           ? 0
                           : prices_.route(holder).RoundTripUs(
                                 holder_tokens_[holder] + sign * static_cast<double>(part.tokens),
                                 holder_chunks_[holder] + sign * part.chunks);
}

void PlanState::Add(size_t holder, const PlanPart& part, double sign) {
  ShowAt(holder, part, sign);
  holder_tokens_[holder] += sign * static_cast<double>(part.tokens);
  holder_chunks_[holder] += sign * part.chunks;
  holder_parts_[holder] += sign > 0 ? 1 : -1;
}

void PlanState::AddHeld(size_t part, double sign) {
  setup_us_ += sign * prices_.hold(part).us;
  held_tokens_ += sign * static_cast<double>(prices_.part(part).tokens);
  held_us_ = prices_.LocalAttentionUs(held_tokens_);
}

void PlanState::Assign(size_t part, uint8_t choice) {
  const uint8_t before = choices_[part];
  if (before == choice) return;
  choices_[part] = choice;
  if (before == kHeld) {
    AddHeld(part, -1);
    cache_bytes_ -= prices_.hold(part).cache_bytes;
  } else if (before != kUnassigned) {
    Add(before, prices_.part(part), -1);
  }
  if (choice == kHeld) {
    AddHeld(part, 1);
    cache_bytes_ += prices_.hold(part).cache_bytes;
  } else {
    Add(choice, prices_.part(part), 1);
  }
}

PlanCost PlanState::CostIf(size_t part, uint8_t choice) {
  const uint8_t before = choices_[part];
  if (before == choice) return Cost();
  const double setup_us = setup_us_;
  const double held_tokens = held_tokens_;
  const double held_us = held_us_;
  const size_t holders_used = holders_used_;
  const double before_us = before == kHeld ? 0 : holder_us_[before];
  const double choice_us = choice == kHeld ? 0 : holder_us_[choice];
  const auto show = [this, part](uint8_t where, double sign) {
    if (where == kHeld) {
      AddHeld(part, sign);
    } else {
      ShowAt(where, prices_.part(part), sign);
    }
  };
  show(before, -1);
  show(choice, 1);
  const PlanCost cost = Cost();
  setup_us_ = setup_us;
  held_tokens_ = held_tokens;
  held_us_ = held_us;
  holders_used_ = holders_used;
  if (before != kHeld) holder_us_[before] = before_us;
  if (choice != kHeld) holder_us_[choice] = choice_us;
  return cost;
}

double PlanState::SetupIf(size_t part, uint8_t choice) const {
  if (choice == kHeld) return setup_us_ + prices_.hold(part).us;
  return choices_[part] == kHeld ? setup_us_ - prices_.hold(part).us : setup_us_;
}

double PlanState::LeastLayerIf(size_t part, uint8_t choice, double slowest_us) const {
  const uint8_t before = choices_[part];
  const PlanPart& what = prices_.part(part);
  const double tokens = static_cast<double>(what.tokens);
  size_t used = holders_used_;
  double held_tokens = held_tokens_;
  if (before == kHeld) {
    held_tokens -= tokens;
  } else if (holder_parts_[before] == 1) {
    --used;
  }
  // What the part leaves may get quicker, all others stay.
  const double before_us = before == kHeld ? held_us_ : holder_us_[before];
  double least_us = before_us == slowest_us ? 0 : slowest_us;
  if (choice == kHeld) {
    held_tokens += tokens;
  } else {
    if (holder_parts_[choice] == 0) ++used;
    least_us = std::max(least_us, HolderUsWith(choice, what));
  }
  const size_t partials = used == 0 ? 0 : used + (held_tokens > 0 ? 1 : 0);
  return least_us + prices_.merge_us() * static_cast<double>(partials);
}

double PlanState::SlowestUs() const {
  // Four at a time: each waits for the one before it otherwise.
  std::array<double, 4> slowest = {held_us_, 0, 0, 0};
  for (size_t i = 0; i < prices_.holders().size(); i += 4) {
    for (size_t lane = 0; lane < 4; ++lane)
      slowest[lane] = std::max(slowest[lane], holder_us_[i + lane]);
  }
  return std::max(std::max(slowest[0], slowest[1]), std::max(slowest[2], slowest[3]));
}

PlanCost PlanState::Cost() const {
  const double slowest_us = SlowestUs();
  const size_t partials = holders_used_ == 0 ? 0 : holders_used_ + (held_tokens_ > 0 ? 1 : 0);
  PlanCost cost;
  cost.setup_us = setup_us_;
  cost.layer_us = slowest_us + prices_.merge_us() * static_cast<double>(partials);
  cost.first_step_us = cost.setup_us + prices_.layers() * cost.layer_us;
  cost.total_us = cost.setup_us + prices_.horizon_layers() * cost.layer_us;
  return cost;
}

}  // namespace latentd
