// Dispatcher: sessions, lanes, messages.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/dispatcher.h"

namespace latentd {

void Dispatcher::Launch(Work work) {
  Entry* entry = FindLive(work.operation);
  if (entry == nullptr || !IsWanted(work)) return;
  if (table_ == nullptr || work.min_epoch > table_->epoch() || work.not_before_ns > now_ns_ ||
      asking_.contains(work.asked)) {
    Park(*entry, std::move(work));
    return;
  }
  Parts parts;  // nearly always one or a few
  bool placed = Place(*entry, work, &parts);
  if (!placed && work.excluded_by < table_->epoch()) {
    // Those that failed it are all there is by a newer table: they may be well again.
    work.excluded.clear();
    parts.clear();
    placed = Place(*entry, work, &parts);
  }
  if (!placed) {
    GiveUp(*entry, work, absl::UnavailableError("no holder is left to ask"));
    return;
  }
  if (parts.empty()) return;
  if (work.contest != nullptr)
    work.contest->race.Split(work.side, static_cast<uint32_t>(parts.size()));
  const bool everywhere = entry->operation->placement() == Placement::kEveryHolder;
  for (size_t i = 0; i < parts.size(); ++i) {
    Work part = i + 1 < parts.size() ? work : std::move(work);
    part.items = std::move(parts[i].items);
    if (i > 0) part.request_id = 0;  // that of one of them
    if (everywhere) part.at = *parts[i].node;
    LaunchAt(*entry, *parts[i].node, parts[i].others, std::move(part));
    if (entry->ended.has_value()) return;
  }
}

void Dispatcher::LaunchAt(Entry& entry, const NodeId& node, bool others, Work work) {
  if (!IsWanted(work)) return;
  const SessionInfo* session = path_->FindSession(node);
  if (session == nullptr) {
    if (const absl::Status* failure = FailedLately(node); failure != nullptr) {
      const absl::Status status = *failure;
      OnFailure(entry, std::move(work), node, status, nullptr);
      return;
    }
    if (others && work.patience_ns == 0) work.patience_ns = now_ns_ + AttemptLimit(entry);
    if (others && work.patience_ns <= now_ns_) {
      CountFailure(records_.At(node), work.patience_ns - 1);
      ++counters_.attempts_timed_out;
      OnFailure(entry, std::move(work), node,
                absl::UnavailableError("it opened no session in time"), nullptr);
      return;
    }
    if (!AskForSession(node)) {
      GiveUp(entry, work,
             absl::NotFoundError(absl::StrCat("node ", node, " is not in the routing table")));
      return;
    }
    Park(entry, std::move(work));
    return;
  }
  const Holder* fixed = entry.operation->fixed_holder();
  if (session->lanes.size() == 1 || fixed != nullptr) {
    SendTo(entry, *session, fixed != nullptr ? fixed->lane : 0, others, std::move(work));
    return;
  }
  std::map<uint32_t, Items> by_lane;
  for (const uint32_t item : work.items) {
    by_lane[path_->LaneOf(node, entry.operation->SlotOf(item))].push_back(item);
  }
  if (work.contest != nullptr)
    work.contest->race.Split(work.side, static_cast<uint32_t>(by_lane.size()));
  for (auto& [lane, items] : by_lane) {
    Work part = work;
    part.items = std::move(items);
    work.request_id = 0;
    SendTo(entry, *session, lane, others, std::move(part));
    if (entry.ended.has_value()) return;
  }
}

void Dispatcher::SendTo(Entry& entry, const SessionInfo& session, uint32_t lane, bool others,
                        Work work) {
  if (!IsWanted(work)) return;
  if (lane >= session.lanes.size()) {
    GiveUp(entry, work,
           absl::NotFoundError(absl::StrCat("node ", session.node, " has no lane ", lane)));
    return;
  }
  std::vector<Built> built;
  const Target target{session, lane, path_->max_header_bytes(), path_->pool()};
  if (absl::Status status = entry.operation->Build(target, work.items, &built); !status.ok()) {
    GiveUp(entry, work, PrefixStatus(status, absl::StrCat("node ", session.node)));
    return;
  }
  if (work.contest != nullptr)
    work.contest->race.Split(work.side, static_cast<uint32_t>(built.size()));
  const bool may_have_second = others && work.contest == nullptr && !work.attempts.changed_holder;
  const bool hedge =
      may_have_second && options_.hedge.quantile > 0 && entry.operation->worth_hedging();
  NodeRecord& record = records_.At(session.node);
  for (Built& message : built) {
    // Of two attempts one is dropped: it must not be the caller's memory that it is sent from, or
    // its connection would have to be closed.
    if (hedge) CopyPayload(message.out);
    Request request{.work = work, .record = &record, .lane = lane, .sent_ns = now_ns_};
    request.work.items = std::move(message.items);
    request.work.tag = message.tag;
    const uint64_t id = path_->Submit(record.id, lane, std::move(message.out), table_->epoch(),
                                      entry.deadline_ns, std::exchange(work.request_id, 0));
    request.probe = record.breaker.OnSent(now_ns_);
    record.lane(lane).load.OnSent();
    if (may_have_second) Arm(request, id, entry, hedge);
    entry.exchanges.push_back(id);
    exchanges_[id] = std::move(request);
  }
}

void Dispatcher::Arm(Request& request, uint64_t id, const Entry& entry, bool hedge) {
  request.give_up_ns = now_ns_ + AttemptLimit(entry);
  request.timer_ns = request.give_up_ns;
  if (hedge) {
    hedge_budget_.OnRequest();
    const auto delay_ns = HedgeDelayNs(options_.hedge, request.record->lane(request.lane).latency);
    if (delay_ns.has_value()) request.timer_ns = std::min(request.timer_ns, now_ns_ + *delay_ns);
  }
  timers_.Add(request.timer_ns, id);
}

void Dispatcher::CopyPayload(Outgoing& out) {
  if (out.payload.empty() || !out.owned.empty()) return;
  PayloadBuffer copy = path_->pool().Take(out.payload.size());
  if (copy.empty()) return;
  std::memcpy(copy.data(), out.payload.data(), out.payload.size());
  out.owned = std::move(copy);
  out.payload = std::as_const(out.owned).bytes();
}

bool Dispatcher::AskForSession(const NodeId& node) {
  const auto index = table_->FindNode(node);
  if (!index.has_value()) return false;
  if (!opening_.insert(node).second) return true;
  const std::optional<TokenBits> doubted = path_->DoubtedToken(node);
  SessionDoubt doubt = SessionDoubt::kNone;
  if (doubted.has_value())
    doubt = refused_.contains(node) ? SessionDoubt::kRefused : SessionDoubt::kSuspect;
  control_->EnsureSession(node, table_->node(*index).control_address, doubt,
                          doubted.value_or(TokenBits{}));
  return true;
}

}  // namespace latentd
