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

PlanState::PlanState(const PlanPrices& prices)
    : prices_(prices),
      held_tokens_(static_cast<double>(prices.request().resident_tokens)),
      held_us_(prices.LocalAttentionUs(held_tokens_)) {
  std::fill_n(choices_.begin(), prices.parts(), kUnassigned);
  const size_t holders = prices.holders().size();
  std::fill_n(holder_us_.begin(), holders, 0);
  std::fill_n(holder_tokens_.begin(), holders, 0);
  std::fill_n(holder_chunks_.begin(), holders, 0);
  std::fill_n(holder_parts_.begin(), holders, 0);
}

void PlanState::Add(size_t holder, const PlanPart& part, double sign) {
  holder_tokens_[holder] += sign * static_cast<double>(part.tokens);
  holder_chunks_[holder] += sign * part.chunks;
  const bool was_used = holder_parts_[holder] != 0;
  holder_parts_[holder] += sign > 0 ? 1 : -1;
  const bool is_used = holder_parts_[holder] != 0;
  holders_used_ += static_cast<size_t>(is_used) - static_cast<size_t>(was_used);
  holder_us_[holder] =
      is_used ? prices_.route(holder).RoundTripUs(holder_tokens_[holder], holder_chunks_[holder])
              : 0;
}

void PlanState::Assign(size_t part, uint8_t choice) {
  const uint8_t before = choices_[part];
  if (before == choice) return;
  const PlanPart& what = prices_.part(part);
  const HoldPrice& hold = prices_.hold(part);
  choices_[part] = choice;
  if (before == kHeld || choice == kHeld) {
    const double sign = choice == kHeld ? 1 : -1;
    setup_us_ += sign * hold.us;
    held_tokens_ += sign * static_cast<double>(what.tokens);
    cache_bytes_ += choice == kHeld ? hold.cache_bytes : -hold.cache_bytes;
    held_us_ = prices_.LocalAttentionUs(held_tokens_);
  }
  if (before != kHeld && before != kUnassigned) Add(before, what, -1);
  if (choice != kHeld) Add(choice, what, 1);
}

PlanCost PlanState::Cost() const {
  double slowest_us = held_us_;
  for (size_t i = 0; i < prices_.holders().size(); ++i)
    slowest_us = std::max(slowest_us, holder_us_[i]);
  const size_t partials = holders_used_ == 0 ? 0 : holders_used_ + (held_tokens_ > 0 ? 1 : 0);
  PlanCost cost;
  cost.setup_us = setup_us_;
  cost.layer_us = slowest_us + prices_.merge_us() * static_cast<double>(partials);
  cost.first_step_us = cost.setup_us + prices_.layers() * cost.layer_us;
  cost.total_us = cost.setup_us + prices_.horizon_layers() * cost.layer_us;
  return cost;
}

}  // namespace latentd
