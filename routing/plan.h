// What a plan is made from and what it says: for each part of a request's context, whether its
// rows go to the part's holder (route), the records come to the requester (fetch), or the requester
// computes them anew (local). planner.h makes plans, plan_explanation.h explains them.
//
// Plain values without heap, so that a decision allocates nothing; any thread.
#ifndef LATENTD_ROUTING_PLAN_H_
#define LATENTD_ROUTING_PLAN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "routing/cost_constants.h"
#include "routing/layout.h"

namespace latentd {

inline constexpr size_t kMaxPlanParts = 64;
inline constexpr size_t kMaxPlanHolders = 64;
inline constexpr size_t kMaxPartReplicas = 8;

enum class Primitive : uint8_t { kRoute, kFetch, kLocal };

constexpr const char* PrimitiveName(Primitive primitive) {
  switch (primitive) {
    case Primitive::kRoute:
      return "route";
    case Primitive::kFetch:
      return "fetch";
    case Primitive::kLocal:
      return "local";
  }
  return "unknown";
}

// One node that could answer. `node` is borrowed and must outlive the call.
struct PlanHolder {
  uint64_t id = 0;  // the same in every plan, say a hash of the node's name; ties go by it
  const NodeConstants* node = nullptr;
  PairConstants pair;
  HolderLoad load;
};

// Chunks that the same in-sync nodes hold.
struct PlanPart {
  uint64_t id = 0;      // the same in every plan of a request, say the slot
  uint64_t tokens = 0;  // that a row attends here
  uint32_t chunks = 1;
  uint64_t ranges = 1;         // runs of bytes that a fetch consists of
  int64_t position_shift = 0;  // Δ: used this many tokens later than it was made for
  bool may_fetch = true;
  bool may_recompute = false;  // the requester has what it takes to compute the records anew
  uint8_t replica_count = 0;
  std::array<uint8_t, kMaxPartReplicas> replicas = {};  // indices of holders, in any order
};

struct PlanRequest {
  const Layout* layout = nullptr;  // borrowed
  uint64_t rows = 0;               // (token, head) rows of one layer of one step
  uint64_t steps = 0;              // the horizon: decode steps over the same parts
  uint64_t free_cache_bytes = 0;   // at the requester, for what is fetched or computed
  uint64_t resident_tokens = 0;    // attended at the requester in any plan
  double deadline_us = 0;          // until the first step has ended; 0: none
  std::span<const PlanPart> parts;
};

// A horizon's time:
//   setup      = sum of the fetches and of the prefills
//   layer      = max(longest round trip of a holder, attention at the requester over all that it
//                has) + merge * rows * (holders routed to + 1 if it has anything); without a holder
//                routed to, nothing is merged
//   first step = setup + layers * layer
//   total      = setup + steps * layers * layer
struct PlanCost {
  double setup_us = 0;
  double layer_us = 0;
  double first_step_us = 0;
  double total_us = 0;
};

enum class PlanReason : uint8_t {
  kCheapest,
  kCheapestInTime,  // of those that meet the deadline
  kSoonest,         // no plan meets the deadline: the one that misses it by least
  kKept,            // the previous plan, since none is better by the margin
};

struct PartChoice {
  uint64_t part_id = 0;
  uint64_t holder_id = 0;  // 0 for local
  Primitive primitive = Primitive::kRoute;
  uint8_t holder = 0;  // index among the holders of this call; of no meaning for local
};

struct Plan {
  size_t parts = 0;
  std::array<PartChoice, kMaxPlanParts> choices;  // in the order of the request's parts
  PlanCost cost;
  uint64_t cache_bytes = 0;  // of free_cache_bytes that this plan uses
  bool meets_deadline = true;
  PlanReason reason = PlanReason::kCheapest;

  std::span<const PartChoice> Choices() const { return {choices.data(), parts}; }
};

}  // namespace latentd

#endif  // LATENTD_ROUTING_PLAN_H_
