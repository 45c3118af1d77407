#include "daemon/membership/coordinator.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(2);
constexpr absl::Duration kRetryAfter = absl::Milliseconds(200);
constexpr double kMostCampaignDelay_ms = 50;
// etcd takes 128 conditions, and the table has two of its own.
constexpr size_t kMostGoneAtOnce = 100;

}  // namespace

Coordinator::Coordinator(Etcd* etcd, Scheduler* scheduler, const ClusterKeys& keys,
                         CoordinatorOptions options, View view,
                         std::function<void(const absl::Status&)> trouble)
    : etcd_(etcd),
      scheduler_(scheduler),
      keys_(keys),
      options_(std::move(options)),
      view_(view),
      made_(scheduler->now()),
      trouble_(std::move(trouble)),
      random_(options_.seed),
      claims_mirror_(
          etcd, scheduler, keys.Claims(), [this] { Look(); },
          [this](const absl::Status& status) { trouble_(status); }),
      campaign_(scheduler, [this] { Campaign(); }),
      deliberate_(scheduler, [this] { Deliberate(); }) {}

void Coordinator::Look() {
  if (*view_.lease == EtcdLease{} || !view_.coordinator->synced()) return Follow();
  const EtcdEntry* entry = view_.coordinator->Find(keys_.Coordinator());
  if (entry == nullptr) {
    Follow();
    campaign_.Set(absl::Milliseconds(
        std::uniform_real_distribution<double>(0, kMostCampaignDelay_ms)(random_)));
    return;
  }
  campaign_.Cancel();
  if (entry->lease != *view_.lease) return Follow();
  if (led_since_ != entry->create_revision) {
    Follow();
    led_since_ = entry->create_revision;
    written_at_ = 0;
    claims_mirror_.Start();
  }
  if (!view_.nodes->synced()) return;
  DeliberateIn(DeathInTable() ? absl::ZeroDuration() : options_.coalesce);
}

void Coordinator::Stop() {
  Follow();
  campaign_.Cancel();
}

void Coordinator::Follow() {
  if (led_since_ == 0) return;
  led_since_ = 0;
  recovers_since_.reset();
  troubles_.clear();
  deliberate_.Cancel();
  claims_mirror_.Stop();
  claims_.clear();
}

Coordinator::Stored Coordinator::Judge() const {
  const absl::StatusOr<v1::TableHead> head = ReadHead(view_.table->entries(), keys_);
  if (absl::IsUnimplemented(head.status())) return Stored::kUnreadable;
  if (!head.ok()) return Stored::kLost;
  const StoredTable& known = *view_.known;
  if (head->epoch() == ToInt(known.epoch()) && head->chain() == known.chain)
    return Stored::kCurrent;
  // Whatever is newer and can be read is known. What a newer table says of holders, an older one
  // cannot replace.
  return head->epoch() > ToInt(known.epoch()) ? Stored::kUnreadable : Stored::kLost;
}

const Roster& Coordinator::CurrentRoster() {
  if (roster_change_ != view_.nodes->changes()) {
    roster_ = ReadRoster(view_.nodes->entries(), keys_);
    roster_change_ = view_.nodes->changes();
  }
  return roster_;
}

bool Coordinator::AnotherKnowsMore() {
  const Roster& roster = CurrentRoster();
  return std::any_of(roster.nodes.begin(), roster.nodes.end(), [this](const RosterNode& node) {
    return node.known_epoch > view_.known->epoch();
  });
}

bool Coordinator::DeathInTable() {
  const StoredTable& known = *view_.known;
  const std::pair<uint64_t, Epoch> looking{view_.nodes->changes(), known.epoch()};
  if (known.table == nullptr || death_looked_for_ == looking) return death_;
  death_looked_for_ = looking;
  std::map<std::string_view, Generation> registered;
  for (const RosterNode& node : CurrentRoster().nodes) {
    registered.emplace(node.node.id, node.node.generation);
  }
  const auto nodes = known.table->nodes();
  death_ = std::any_of(nodes.begin(), nodes.end(), [&](const NodeInfo& node) {
    const auto found = registered.find(node.id);
    return found == registered.end() || found->second != node.generation;
  });
  return death_;
}

void Coordinator::Campaign() {
  if (*view_.lease == EtcdLease{} || !view_.nodes->synced() || !view_.table->synced()) return;
  if (view_.coordinator->Find(keys_.Coordinator()) != nullptr) return;
  campaign_.Set(kRetryAfter);
  const Stored stored = Judge();
  if (stored == Stored::kUnreadable) return;
  if (stored != Stored::kCurrent && AnotherKnowsMore()) return;
  v1::CoordinatorEntry entry;
  entry.set_node_id(options_.id);
  entry.set_generation(ToInt(options_.generation));
  entry.set_version(options_.version);
  entry.set_elected_unix_ms(options_.started_unix_ms +
                            absl::ToInt64Milliseconds(scheduler_->now() - made_));
  EtcdTransaction transaction;
  transaction.guards.push_back({keys_.Coordinator(), EtcdGuard::Field::kCreateRevision, 0});
  transaction.writes.push_back(
      {.key = keys_.Coordinator(), .value = entry.SerializeAsString(), .lease = *view_.lease});
  etcd_->Commit(std::move(transaction), kTimeout,
                life_.Guard([this](const absl::StatusOr<EtcdOutcome>& outcome) {
                  // The mirror tells who won.
                  if (!outcome.ok()) trouble_(outcome.status());
                }));
}

void Coordinator::Resign(const std::string& why) {
  troubles_ = {why};
  busy_ = true;
  EtcdTransaction transaction;
  transaction.guards.push_back(
      {keys_.Coordinator(), EtcdGuard::Field::kCreateRevision, led_since_});
  transaction.writes.push_back({.key = keys_.Coordinator(), .erase = true});
  etcd_->Commit(std::move(transaction), kTimeout,
                life_.Guard([this](const absl::StatusOr<EtcdOutcome>& outcome) {
                  busy_ = false;
                  if (!outcome.ok()) trouble_(outcome.status());
                  DeliberateIn(kRetryAfter);
                }));
}

void Coordinator::DeliberateIn(absl::Duration delay) {
  if (led_since_ == 0) return;
  const absl::Time earliest = last_write_ + options_.least_interval;
  deliberate_.Set(std::max(delay, earliest - scheduler_->now()));
}

bool Coordinator::WaitToRecover() {
  const absl::Time now = scheduler_->now();
  if (!recovers_since_) recovers_since_ = now;
  const absl::Time until = *recovers_since_ + options_.ttl;
  if (now >= until) return false;
  deliberate_.Set(until - now);
  return true;
}

v1::Layout Coordinator::ClusterLayout(const Roster& roster) const {
  const absl::StatusOr<v1::TableHead> head = ReadHead(view_.table->entries(), keys_);
  if (!head.ok() || !head->has_layout()) return options_.layout;
  const bool in_use = std::any_of(
      roster.nodes.begin(), roster.nodes.end(),
      [&](const RosterNode& node) { return node.layout.hash() == head->layout().hash(); });
  return in_use ? head->layout() : options_.layout;
}

void Coordinator::ReadClaims() {
  std::map<NodeId, Claimed> claims;
  for (const auto& [key, entry] : claims_mirror_.entries()) {
    const NodeId id = key.substr(keys_.Claims().size());
    const auto known = claims_.find(id);
    if (known != claims_.end() && known->second.mod_revision == entry.mod_revision) {
      claims.insert(claims_.extract(known));
      continue;
    }
    absl::StatusOr<SlotClaimSet> read = SlotClaimSet::Unpack(entry.value);
    if (read.ok()) {
      claims.emplace(id, Claimed{entry.mod_revision, *std::move(read)});
    } else {
      troubles_.push_back(absl::StrCat("node '", id, "': ", read.status().message()));
    }
  }
  claims_ = std::move(claims);
}

Missed Coordinator::WhoMissedWhat(const std::vector<NodeInfo>& nodes) const {
  const RoutingTable* known = view_.known->table.get();
  if (known == nullptr) return nullptr;
  std::map<std::pair<NodeIndex, Slot>, Epoch> missed;
  for (const auto& [id, claimed] : claims_) {
    const std::optional<NodeIndex> holder = known->FindNode(id);
    if (!holder || known->node(*holder).generation != claimed.claims.generation()) continue;
    for (const auto& [name, what] : claimed.claims.missed()) {
      const auto node = std::find_if(nodes.begin(), nodes.end(), [&](const NodeInfo& n) {
        return n.id == name && n.generation == what.generation;
      });
      if (node == nodes.end() || name == id) continue;
      const auto index = static_cast<NodeIndex>(node - nodes.begin());
      for (const auto& [slot, placed] : what.placed) {
        if (!known->Holds(*holder, slot)) continue;
        Epoch& newest = missed[{index, slot}];
        newest = std::max(newest, placed);
      }
    }
  }
  if (missed.empty()) return nullptr;
  return [missed = std::move(missed)](NodeIndex node, Slot slot) -> std::optional<Epoch> {
    const auto found = missed.find({node, slot});
    return found == missed.end() ? std::nullopt : std::optional(found->second);
  };
}

void Coordinator::LeaveOutUnknown(Roster& roster, Epoch& least_epoch, bool recovering) const {
  const StoredTable& known = *view_.known;
  std::erase_if(roster.nodes, [&](const RosterNode& node) {
    const bool more = node.known_epoch > known.epoch() ||
                      (node.known_epoch == known.epoch() && known.table != nullptr &&
                       node.known_chain != known.chain);
    if (more) least_epoch = std::max(least_epoch, Epoch{ToInt(node.known_epoch) + 1});
    return more;
  });
  if (recovering) least_epoch = std::max(least_epoch, Epoch{ToInt(known.epoch()) + 1});
  const absl::StatusOr<v1::TableHead> head = ReadHead(view_.table->entries(), keys_);
  if (head.ok() && recovering) least_epoch = std::max(least_epoch, Epoch{head->epoch() + 1});
}

void Coordinator::KeepSomeOfTheGone(Roster& roster, const v1::Layout& layout) const {
  if (view_.known->table == nullptr) return;
  std::map<std::string_view, size_t> there;
  for (size_t i = 0; i < roster.nodes.size(); ++i) there.emplace(roster.nodes[i].node.id, i);
  std::vector<RosterNode> kept;
  size_t gone = 0;
  for (const NodeInfo& node : view_.known->table->nodes()) {
    const auto found = there.find(node.id);
    RosterNode* back = found == there.end() ? nullptr : &roster.nodes[found->second];
    if (back != nullptr && back->node.generation == node.generation) continue;
    if (++gone <= kMostGoneAtOnce) continue;
    RosterNode as_before{.node = node, .layout = layout};
    if (back != nullptr) {
      as_before.since_revision = back->since_revision;
      *back = std::move(as_before);
    } else {
      kept.push_back(std::move(as_before));
    }
  }
  roster.nodes.insert(roster.nodes.end(), kept.begin(), kept.end());
}

std::vector<EtcdGuard> Coordinator::GuardsFor(const RoutingTable& next) const {
  std::vector<EtcdGuard> guards = {
      {keys_.Coordinator(), EtcdGuard::Field::kCreateRevision, led_since_}};
  if (view_.known->table == nullptr) return guards;
  std::map<std::string_view, Generation> stays;
  for (const NodeInfo& node : next.nodes()) stays.emplace(node.id, node.generation);
  for (const NodeInfo& node : view_.known->table->nodes()) {
    const auto found = stays.find(node.id);
    if (found != stays.end() && found->second == node.generation) continue;
    const EtcdEntry* entry = view_.nodes->Find(keys_.Node(node.id));
    guards.push_back({keys_.Node(node.id), EtcdGuard::Field::kModRevision,
                      entry == nullptr ? 0 : entry->mod_revision});
  }
  return guards;
}

void Coordinator::Deliberate() {
  if (led_since_ == 0 || busy_ || *view_.lease == EtcdLease{}) return;
  if (!view_.nodes->synced() || !view_.table->synced() || !claims_mirror_.synced()) return;
  if (view_.table->revision() < written_at_) return;  // what was written is still to be seen
  const Stored stored = Judge();
  if (stored == Stored::kUnreadable) return Resign("cannot read the routing table in etcd");
  const bool recovering = stored != Stored::kCurrent;
  if (recovering) {
    if (AnotherKnowsMore()) return Resign("another node knows a newer routing table");
    if (WaitToRecover()) return;
  } else {
    recovers_since_.reset();
  }

  troubles_.clear();
  Roster roster = CurrentRoster();
  Epoch least_epoch{};
  LeaveOutUnknown(roster, least_epoch, recovering);
  const v1::Layout layout = ClusterLayout(roster);
  KeepSomeOfTheGone(roster, layout);
  AdmittedNodes admitted = AdmitNodes(roster, view_.known->table.get(), layout);
  troubles_ = std::move(admitted.troubles);
  ReadClaims();
  const auto in_sync = [&](NodeIndex node, Slot slot, Epoch placed) {
    const NodeInfo& info = admitted.nodes[node];
    const auto claimed = claims_.find(info.id);
    return claimed != claims_.end() && claimed->second.claims.generation() == info.generation &&
           claimed->second.claims.Has(slot, placed);
  };
  absl::StatusOr<TablePtr> next =
      NextTable(view_.known->table, {.nodes = admitted.nodes,
                                     .replicas = options_.replicas,
                                     .in_sync = in_sync,
                                     .missed = WhoMissedWhat(admitted.nodes),
                                     .block_slots = options_.block_slots,
                                     .least_epoch = least_epoch});
  if (!next.ok()) {
    troubles_.emplace_back(next.status().message());
    return;
  }
  if (*next != view_.known->table) Write(*std::move(next), layout);
}

void Coordinator::Write(TablePtr next, const v1::Layout& layout) {
  v1::TableHead head;
  // What a newer version wrote there, and this one does not know, stays.
  if (const EtcdEntry* old = view_.table->Find(keys_.Head()))
    (void)head.ParseFromString(old->value);
  *head.mutable_layout() = layout;
  head.set_replicas(options_.replicas);
  head.set_written_by(options_.id);
  busy_ = true;
  const std::vector<EtcdGuard> guards = GuardsFor(*next);
  CommitNext(
      std::make_shared<const TableWrite>(WriteTable(view_.table->entries(), keys_, *view_.known,
                                                    std::move(next), std::move(head), guards)),
      0);
}

void Coordinator::CommitNext(std::shared_ptr<const TableWrite> write, size_t index) {
  etcd_->Commit(write->transactions[index], kTimeout,
                life_.Guard([this, write, index,
                             led = led_since_](const absl::StatusOr<EtcdOutcome>& outcome) {
                  const bool done = outcome.ok() && outcome->done;
                  if (done && index + 1 < write->transactions.size())
                    return CommitNext(write, index + 1);
                  busy_ = false;
                  last_write_ = scheduler_->now();
                  if (done && led == led_since_) written_at_ = outcome->revision;
                  if (!outcome.ok()) trouble_(outcome.status());
                  // Not done, or nobody knows: whatever is stored then is what the next table follows.
                  DeliberateIn(done ? options_.coalesce : kRetryAfter);
                }));
}

}  // namespace latentd
