// `CostView` keeps what one requester knows of the price of each node: how long its device attends
// (what the node says of itself, Cluster.GetCosts, or what was timed from here), what the link to it
// costs (timed from here: pair_probe.h), and how busy it is (what its answers say). `At` is what the
// planner takes of it; what nobody measured, or is old, says so there and is dear.
//
// Pure: time comes in as an argument. Not synchronised: whoever calls the client feeds it and plans
// with it, on one thread.
//
//     view.Take(reading.costs, now);                  // GetCosts, every so often
//     view.SetLink(node, *FitPair(node, timings), generation, now);
//     view.OnAnswer(timing, now);                     // of each AttendAnswer::holders
//     view.Follow(*client.table());                   // when it has changed
//     MakePlan(request, holders_of_view, requester, ...);
#ifndef LATENTD_CLIENT_COST_VIEW_H_
#define LATENTD_CLIENT_COST_VIEW_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>

#include "absl/time/time.h"
#include "client/query.h"
#include "routing/cost_constants.h"
#include "routing/costs_proto.h"
#include "routing/ids.h"
#include "routing/plan.h"
#include "routing/routing_table.h"

namespace latentd {

class CostView {
 public:
  // Links and tables timed from here are stale when they are older than `stale_after`; what a node
  // says of itself comes with its own state.
  explicit CostView(absl::Duration stale_after) : stale_after_(stale_after) {}

  // Its compute tables. Its links are its own, from there to others, and are not looked at.
  void Take(const NodeCosts& costs);
  // Timed from here; in the place of what the node said, until it says anything newer.
  void SetCompute(const NodeId& node, const NodeConstants& constants, Generation generation,
                  absl::Time now);
  void SetLink(const NodeId& node, const PairConstants& pair, Generation generation,
               absl::Time now);
  // How long the request waited at the holder beside the time that its own bytes took; fades.
  void OnAnswer(const HolderTiming& timing, absl::Time now);
  // It answered RESOURCE_EXHAUSTED with this hint (transport/errors.h's RetryAfter).
  void OnRefusal(const NodeId& node, absl::Duration retry_after, absl::Time now);
  // Forgets nodes that are gone; what was measured of another life of a node is stale.
  void Follow(const RoutingTable& table);

  // `node` of the result borrows from this view, until the next call of it. Of an unknown node:
  // everything missing. So is the queue, until an answer has come; when none comes any more it
  // fades to nothing.
  PlanHolder At(const NodeId& node, absl::Time now) const;

 private:
  struct Known {
    NodeConstants compute;
    Generation compute_generation{};
    absl::Time compute_timed = absl::InfiniteFuture();  // from here; else the node's own word
    PairConstants link;
    Generation link_generation{};
    absl::Time link_timed = absl::InfinitePast();
    double queue_us = 0;
    absl::Time queue_at = absl::InfinitePast();
    double retry_after_us = 0;
    absl::Time refuses_until = absl::InfinitePast();
  };

  HolderLoad LoadOf(const Known& known, absl::Time now) const;

  const absl::Duration stale_after_;
  std::map<NodeId, Known> nodes_;
  // What `At` hands out of nodes whose table has become old.
  mutable std::map<NodeId, NodeConstants> aged_;
};

// Of a node's name: never 0, the same everywhere.
uint64_t PlanIdOf(std::string_view node);

}  // namespace latentd

#endif  // LATENTD_CLIENT_COST_VIEW_H_
