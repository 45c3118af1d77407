#include "client/cost_view.h"

#include <algorithm>
#include <cmath>

#include "routing/rendezvous.h"

namespace latentd {
namespace {

// What a holder said of its queue counts half as much after so long.
constexpr absl::Duration kQueueHalfLife = absl::Milliseconds(500);
// Of the newest answer in the average.
constexpr double kNewest = 0.25;

double Faded(double queue_us, absl::Duration age) {
  return queue_us * std::exp2(-std::max(0.0, absl::FDivDuration(age, kQueueHalfLife)));
}

}  // namespace

uint64_t PlanIdOf(std::string_view node) { return std::max<uint64_t>(RendezvousSeed(node), 1); }

void CostView::Take(const NodeCosts& costs) {
  Known& known = nodes_[costs.node];
  const bool timed_here = known.compute_timed != absl::InfiniteFuture();
  if (timed_here && costs.compute_measured <= known.compute_timed) return;
  known.compute = costs.compute;
  known.compute_generation = costs.generation;
  known.compute_timed = absl::InfiniteFuture();
}

void CostView::SetCompute(const NodeId& node, const NodeConstants& constants, Generation generation,
                          absl::Time now) {
  Known& known = nodes_[node];
  known.compute = constants;
  known.compute_generation = generation;
  known.compute_timed = now;
}

void CostView::SetLink(const NodeId& node, const PairConstants& pair, Generation generation,
                       absl::Time now) {
  Known& known = nodes_[node];
  known.link = pair;
  known.link_generation = generation;
  known.link_timed = now;
}

void CostView::OnAnswer(const HolderTiming& timing, absl::Time now) {
  Known& known = nodes_[timing.node];
  // The rows of a large request come while it is counted as waiting. A link that nobody measured
  // explains nothing of it.
  const auto& out = known.link.out_bytes_per_us;
  const double transfer_us = out.state == ConstantState::kMeasured
                                 ? static_cast<double>(timing.bytes_sent) / out.Usable()
                                 : 0;
  const double waited_us = std::max(0.0, static_cast<double>(timing.queue_ns) * 1e-3 - transfer_us);
  const double before_us =
      known.queue_at == absl::InfinitePast() ? 0 : Faded(known.queue_us, now - known.queue_at);
  known.queue_us = before_us + kNewest * (waited_us - before_us);
  known.queue_at = now;
  known.refuses_until = absl::InfinitePast();
}

void CostView::OnRefusal(const NodeId& node, absl::Duration retry_after, absl::Time now) {
  Known& known = nodes_[node];
  known.retry_after_us = absl::ToDoubleMicroseconds(retry_after);
  known.refuses_until = now + retry_after;
}

void CostView::Follow(const RoutingTable& table) {
  const auto is_gone = [&](const auto& entry) { return !table.FindNode(entry.first).has_value(); };
  std::erase_if(nodes_, is_gone);
  std::erase_if(aged_, is_gone);
  for (auto& [node, known] : nodes_) {
    const Generation now = table.node(*table.FindNode(node)).generation;
    const auto is_other = [now](Generation then) {
      return ToInt(now) != 0 && ToInt(then) != 0 && then != now;
    };
    if (is_other(known.compute_generation)) MarkStale(known.compute);
    if (is_other(known.link_generation)) MarkStale(known.link);
  }
}

HolderLoad CostView::LoadOf(const Known& known, absl::Time now) const {
  HolderLoad load;
  if (known.queue_at != absl::InfinitePast()) {
    load.queue_us =
        MeasuredConstant<ConstantKind::kQueue>(Faded(known.queue_us, now - known.queue_at));
  }
  load.saturated = now < known.refuses_until;
  if (load.saturated) {
    load.retry_after_us = MeasuredConstant<ConstantKind::kRetryAfter>(known.retry_after_us);
  }
  return load;
}

PlanHolder CostView::At(const NodeId& node, absl::Time now) const {
  PlanHolder holder;
  holder.id = PlanIdOf(node);
  const auto it = nodes_.find(node);
  if (it == nodes_.end()) {
    static const NodeConstants& unknown = *new NodeConstants;
    holder.node = &unknown;
    return holder;
  }
  const Known& known = it->second;
  holder.node = &known.compute;
  if (known.compute_timed != absl::InfiniteFuture() && now - known.compute_timed > stale_after_) {
    NodeConstants& aged = aged_[node];
    aged = known.compute;
    MarkStale(aged);
    holder.node = &aged;
  }
  holder.pair = known.link;
  if (now - known.link_timed > stale_after_) MarkStale(holder.pair);
  holder.load = LoadOf(known, now);
  return holder;
}

}  // namespace latentd
