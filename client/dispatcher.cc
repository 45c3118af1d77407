#include "client/dispatcher.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transport/errors.h"

namespace latentd {

Dispatcher::Dispatcher(DataPath* path, ControlPlane* control, Handover* handover, LayoutHash layout)
    : path_(path), control_(control), handover_(handover), layout_(layout) {}

uint64_t Dispatcher::Start(std::unique_ptr<Operation> operation, uint64_t deadline_ns) {
  const uint64_t id = next_id_++;
  now_ns_ = SteadyNanos();
  auto owned = std::make_unique<Entry>();
  Entry& entry = *owned;
  entry.operation = std::move(operation);
  entry.deadline_ns = deadline_ns;
  entry.started_ns = now_ns_;
  entries_[id] = std::move(owned);
  deadlines_.Add(deadline_ns, id);

  Work work{.operation = id};
  for (uint32_t item = 0; item < entry.operation->initial_items(); ++item)
    work.items.push_back(item);
  if (!work.items.empty()) Launch(std::move(work));
  Settle(id, entry);
  return id;
}

Dispatcher::Entry* Dispatcher::FindLive(uint64_t operation) {
  const auto found = entries_.find(operation);
  return found == entries_.end() || found->second->ended.has_value() ? nullptr
                                                                     : found->second.get();
}

std::optional<NodeId> Dispatcher::Choose(const Operation& operation, uint32_t item,
                                         const Work& work) const {
  const auto excluded = [&](const NodeId& node) {
    return std::find(work.excluded.begin(), work.excluded.end(), node) != work.excluded.end();
  };
  if (const Holder* fixed = operation.fixed_holder(); fixed != nullptr) {
    if (excluded(fixed->node)) return std::nullopt;
    return fixed->node;
  }
  const std::span<const NodeIndex> holders = table_->HoldersOf(operation.SlotOf(item));
  if (!operation.any_holder()) {
    const NodeId& primary = table_->node(holders.front()).id;
    if (excluded(primary)) return std::nullopt;
    return primary;
  }
  std::optional<NodeId> last_resort;
  for (const NodeIndex index : holders) {
    const NodeInfo& node = table_->node(index);
    if (excluded(node.id)) continue;
    // A holder that was just lost may be back, but finding out takes time: others come first.
    if (node.state != NodeState::kDown && !path_->InDoubt(node.id)) return node.id;
    if (!last_resort.has_value()) last_resort = node.id;
  }
  return last_resort;
}

void Dispatcher::Launch(Work work) {
  Entry* entry = FindLive(work.operation);
  if (entry == nullptr) return;
  if (table_ == nullptr || work.min_epoch > table_->epoch() || work.not_before_ns > now_ns_ ||
      asking_.contains(work.asked)) {
    Park(*entry, std::move(work));
    return;
  }
  // Nearly always one or a few nodes.
  absl::InlinedVector<std::pair<NodeId, Items>, 4> by_node;
  for (const uint32_t item : work.items) {
    const std::optional<NodeId> node = Choose(*entry->operation, item, work);
    if (!node.has_value()) {
      EndEntry(work.operation, *entry, absl::UnavailableError("no holder is left to ask"));
      return;
    }
    if (entry->operation->any_holder()) CallBackLost(entry->operation->SlotOf(item), *node);
    auto found = std::find_if(by_node.begin(), by_node.end(),
                              [&](const auto& b) { return b.first == *node; });
    if (found == by_node.end()) found = by_node.insert(by_node.end(), {*node, {}});
    found->second.push_back(item);
  }
  for (auto& [node, items] : by_node) {
    Work part = work;
    part.items = std::move(items);
    LaunchAt(*entry, node, std::move(part));
    if (entry->ended.has_value()) return;
  }
}

void Dispatcher::LaunchAt(Entry& entry, const NodeId& node, Work work) {
  const SessionInfo* session = path_->FindSession(node);
  if (session == nullptr) {
    const auto failure = failures_.find(node);
    if (failure != failures_.end() && failure->second.until_ns > now_ns_) {
      const absl::Status status = failure->second.status;
      OnFailure(entry, std::move(work), node, status, nullptr);
      return;
    }
    AskForSession(node);
    Park(entry, std::move(work));
    return;
  }
  const Holder* fixed = entry.operation->fixed_holder();
  if (session->lanes.size() == 1 || fixed != nullptr) {
    SendTo(entry, *session, fixed != nullptr ? fixed->lane : 0, std::move(work));
    return;
  }
  std::map<uint32_t, Items> by_lane;
  for (const uint32_t item : work.items) {
    by_lane[path_->LaneOf(node, entry.operation->SlotOf(item))].push_back(item);
  }
  for (auto& [lane, items] : by_lane) {
    Work part = work;
    part.items = std::move(items);
    SendTo(entry, *session, lane, std::move(part));
    if (entry.ended.has_value()) return;
  }
}

void Dispatcher::SendTo(Entry& entry, const SessionInfo& session, uint32_t lane, Work work) {
  if (lane >= session.lanes.size()) {
    EndEntry(work.operation, entry,
             absl::NotFoundError(absl::StrCat("node ", session.node, " has no lane ", lane)));
    return;
  }
  std::vector<Built> built;
  const Target target{session, lane, path_->max_header_bytes(), path_->pool()};
  if (absl::Status status = entry.operation->Build(target, work.items, &built); !status.ok()) {
    EndEntry(work.operation, entry, PrefixStatus(status, absl::StrCat("node ", session.node)));
    return;
  }
  const NodeId node = session.node;
  for (Built& message : built) {
    Work part = work;
    part.items = std::move(message.items);
    part.tag = message.tag;
    part.sent_to = node;
    const uint64_t reuse_id = std::exchange(work.reuse_id, 0);
    const uint64_t id = path_->Submit(node, lane, std::move(message.out), table_->epoch(),
                                      entry.deadline_ns, reuse_id);
    entry.exchanges.push_back(id);
    exchanges_[id] = std::move(part);
  }
}

// Others stand in for a holder that was lost; it is called back all the same, now and then.
void Dispatcher::CallBackLost(Slot slot, const NodeId& chosen) {
  for (const NodeIndex index : table_->HoldersOf(slot)) {
    const NodeId& node = table_->node(index).id;
    if (node == chosen) return;
    const auto failure = failures_.find(node);
    const bool failed_lately = failure != failures_.end() && failure->second.until_ns > now_ns_;
    if (!failed_lately && path_->DoubtedToken(node).has_value()) AskForSession(node);
  }
}

void Dispatcher::AskForSession(const NodeId& node) {
  const auto index = table_->FindNode(node);
  if (!index.has_value() || !opening_.insert(node).second) return;
  const std::optional<TokenBits> doubted = path_->DoubtedToken(node);
  SessionDoubt doubt = SessionDoubt::kNone;
  if (doubted.has_value())
    doubt = refused_.contains(node) ? SessionDoubt::kRefused : SessionDoubt::kSuspect;
  control_->EnsureSession(node, table_->node(*index).control_address, doubt,
                          doubted.value_or(TokenBits{}));
}

void Dispatcher::Park(Entry& entry, Work work) {
  ++entry.parked;
  if (work.not_before_ns > now_ns_) wake_ns_ = std::min(wake_ns_, work.not_before_ns);
  parked_.push_back(std::move(work));
}

void Dispatcher::WakeParked() {
  std::vector<Work> awake;
  awake.swap(parked_);
  wake_ns_ = kNever;
  for (Work& work : awake) {
    const uint64_t id = work.operation;
    const auto found = entries_.find(id);
    if (found == entries_.end()) continue;
    Entry& entry = *found->second;
    --entry.parked;
    Launch(std::move(work));
    Settle(id, entry);
  }
}

bool Dispatcher::Progress() {
  now_ns_ = SteadyNanos();
  bool busy = path_->Progress(now_ns_, &results_);
  for (size_t i = 0; i < results_.size(); ++i) OnResult(std::move(results_[i]));
  results_.clear();

  handover_->Take(&events_);
  busy = busy || !events_.empty();
  for (size_t i = 0; i < events_.size(); ++i) OnEvent(std::move(events_[i]));
  if (!events_.empty() || wake_ns_ <= now_ns_) WakeParked();
  events_.clear();

  deadlines_.TakeDue(now_ns_, &due_);
  for (const uint64_t id : due_) {
    if (Entry* entry = FindLive(id); entry != nullptr) EndEntry(id, *entry, DeadlineStatus(*entry));
  }
  due_.clear();
  busy = busy || !ready_.empty();
  FinishReady();
  return busy;
}

uint64_t Dispatcher::next_timer_ns() const {
  return std::min({deadlines_.next_ns(), wake_ns_, path_->next_timer_ns()});
}

void Dispatcher::End(uint64_t id, absl::Status status) {
  if (Entry* entry = FindLive(id); entry != nullptr) EndEntry(id, *entry, std::move(status));
}

void Dispatcher::EndAll(const absl::Status& status) {
  std::vector<uint64_t> ids;
  for (const auto& [id, entry] : entries_) ids.push_back(id);
  for (const uint64_t id : ids) End(id, status);
}

void Dispatcher::EndEntry(uint64_t id, Entry& entry, absl::Status status) {
  if (entry.ended.has_value()) return;
  entry.ended = std::move(status);
  const auto exchanges = entry.exchanges;
  for (const uint64_t exchange : exchanges) path_->Abandon(exchange);
  std::erase_if(parked_, [&](const Work& work) { return work.operation == id; });
  entry.parked = 0;
  Settle(id, entry);
}

void Dispatcher::Settle(uint64_t id, Entry& entry) {
  if (entry.ready || entry.parked > 0 || !entry.exchanges.empty()) return;
  entry.ready = true;
  ready_.push_back(id);
}

void Dispatcher::FinishReady() {
  // A callback may start operations, which may be ready at once: they wait for the next turn.
  std::vector<uint64_t> ready;
  ready.swap(ready_);
  for (const uint64_t id : ready) {
    const auto found = entries_.find(id);
    if (found == entries_.end()) continue;
    const std::unique_ptr<Entry> entry = std::move(found->second);
    entries_.erase(found);
    deadlines_.Remove(entry->deadline_ns, id);
    entry->operation->Finish(entry->ended.value_or(absl::OkStatus()));
  }
}

absl::Status Dispatcher::DeadlineStatus(const Entry& entry) const {
  std::vector<std::string> waiting;
  for (const uint64_t id : entry.exchanges) waiting.push_back(exchanges_.at(id).sent_to);
  const double ms = static_cast<double>(entry.deadline_ns - entry.started_ns) / 1e6;
  std::string what = waiting.empty() ? "for a session or a table"
                                     : absl::StrCat("for ", absl::StrJoin(waiting, ", "));
  return absl::DeadlineExceededError(absl::StrCat("no answer within ", ms, " ms; waited ", what));
}

}  // namespace latentd
