// The planner's working parts: `PlanPrices`, every price of one request's alternatives, and
// `PlanState`, one assignment of its parts whose cost follows each change. For routing/ alone.
//
// Arrays of fixed size and no heap; both are large (tens of KB) and begin uninitialised. One
// thread.
#ifndef LATENTD_ROUTING_PLAN_STATE_H_
#define LATENTD_ROUTING_PLAN_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "routing/cost_model.h"
#include "routing/plan.h"

namespace latentd {

// Fetch from the cheapest replica, or prefill: what costs less. Both take the same cache.
struct HoldPrice {
  double us;
  uint64_t cache_bytes;
  Primitive primitive;
  uint8_t holder;
  bool possible;  // also: there is room for it alone
};

class PlanPrices {
 public:
  PlanPrices() = default;
  PlanPrices(const PlanPrices&) = delete;
  PlanPrices& operator=(const PlanPrices&) = delete;

  // REQUIRES: CheckPlanRequest says OK.
  void Reset(const PlanRequest& request, std::span<const PlanHolder> holders,
             const RequesterConstants& requester);

  // Makes the part's hold price that of an earlier choice, a fetch or local, if that can still be
  // done and the cheapest is not cheaper by more than `margin` of it.
  void KeepHold(size_t part, const PartChoice& before, double margin);

  size_t parts() const { return request_->parts.size(); }
  const PlanPart& part(size_t i) const { return request_->parts[i]; }
  const PlanRequest& request() const { return *request_; }
  std::span<const PlanHolder> holders() const { return holders_; }
  const RoutePricer& route(size_t holder) const { return routes_[holder]; }
  const HoldPrice& hold(size_t part) const { return holds_[part]; }
  double LocalAttentionUs(double tokens) const { return tokens > 0 ? local_.Us(tokens) : 0; }
  double merge_us() const { return merge_us_; }              // of one partial of every row
  double layers() const { return layers_; }                  // of one step
  double horizon_layers() const { return horizon_layers_; }  // steps * layers

  FetchTerms Fetch(const PlanPart& part, size_t holder) const;
  // At most what the part's chunks take in whole pages.
  uint64_t CacheBytes(const PlanPart& part) const;

 private:
  HoldPrice CheapestHold(const PlanPart& part) const;

  const PlanRequest* request_;
  const RequesterConstants* requester_;
  std::span<const PlanHolder> holders_;
  std::array<RoutePricer, kMaxPlanHolders> routes_;
  std::array<HoldPrice, kMaxPlanParts> holds_;
  ComputePricer local_;
  double merge_us_;
  double layers_;
  double horizon_layers_;
};

inline constexpr uint8_t kHeld = 255;  // fetched or computed anew
inline constexpr uint8_t kUnassigned = 254;

class PlanState {
 public:
  // Nothing is assigned. `prices` must outlive the state.
  explicit PlanState(const PlanPrices& prices);

  uint8_t choice(size_t part) const { return choices_[part]; }
  const std::array<uint8_t, kMaxPlanParts>& choices() const { return choices_; }
  // `choice` is kHeld or the index of a holder. REQUIRES: the part may be held, or the holder is
  // one of its replicas. Room is not checked.
  void Assign(size_t part, uint8_t choice);

  bool FitsHeld(size_t part) const {
    return prices_.hold(part).possible &&
           cache_bytes_ + prices_.hold(part).cache_bytes <= prices_.request().free_cache_bytes;
  }
  uint64_t cache_bytes() const { return cache_bytes_; }
  // Round trip of a holder with this state's parts, and with one more.
  double HolderUs(size_t holder) const { return holder_us_[holder]; }
  double HolderUsWith(size_t holder, const PlanPart& part) const {
    return prices_.route(holder).RoundTripUs(holder_tokens_[holder] + part.tokens,
                                             holder_chunks_[holder] + part.chunks);
  }
  double HeldAttentionUs() const { return held_us_; }

  // The longest round trip or attention at the requester. REQUIRES, here and below: every part is
  // assigned.
  double SlowestUs() const;
  PlanCost Cost() const;
  // Cost() after Assign(part, choice); leaves the state as it is, to the last bit.
  PlanCost CostIf(size_t part, uint8_t choice);
  // Not more than CostIf's setup and layer, for a fraction of its time. `slowest_us` is
  // SlowestUs(). REQUIRES: another choice than the part's.
  double SetupIf(size_t part, uint8_t choice) const;
  double LeastLayerIf(size_t part, uint8_t choice, double slowest_us) const;

 private:
  void Add(size_t holder, const PlanPart& part, double sign);
  void AddHeld(size_t part, double sign);
  void ShowAt(size_t holder, const PlanPart& part, double sign);

  const PlanPrices& prices_;
  std::array<uint8_t, kMaxPlanParts> choices_;
  std::array<double, kMaxPlanHolders> holder_us_;  // 0: nothing is routed there
  std::array<double, kMaxPlanHolders> holder_tokens_;
  std::array<double, kMaxPlanHolders> holder_chunks_;
  std::array<uint8_t, kMaxPlanHolders> holder_parts_;
  size_t holders_used_ = 0;
  uint64_t cache_bytes_ = 0;
  double setup_us_ = 0;
  double held_tokens_;
  double held_us_;
};

}  // namespace latentd

#endif  // LATENTD_ROUTING_PLAN_STATE_H_
