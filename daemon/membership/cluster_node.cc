#include "daemon/membership/cluster_node.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/membership/capacity_troubles.h"
#include "routing/table_proto.h"

namespace latentd {
namespace {

constexpr absl::Duration kAuditTimeout = absl::Seconds(1);
constexpr absl::Duration kAuditRetryAfter = absl::Milliseconds(100);
constexpr absl::Duration kListAnewEvery = absl::Milliseconds(500);
constexpr int kTtlsBetweenAudits = 10;
// Who does not ask again says nothing of an etcd that is well by now.
constexpr absl::Duration kTroubleLasts = absl::Seconds(5);

CoordinatorOptions OptionsOfCoordinator(const ClusterNodeOptions& options) {
  return {.id = options.self.id,
          .generation = options.self.generation,
          .version = options.version,
          .started_unix_ms = options.started_unix_ms,
          .layout = options.layout,
          .replicas = options.replicas,
          .ttl = options.ttl,
          .seed = options.seed + 1,
          .block_slots = options.block_slots};
}

}  // namespace

ClusterNode::ClusterNode(Etcd* etcd, Scheduler* scheduler, ClusterNodeOptions options,
                         ServingFence* fence, Callbacks callbacks)
    : etcd_(etcd),
      scheduler_(scheduler),
      options_(std::move(options)),
      keys_(options_.cluster),
      fence_(fence),
      callbacks_(std::move(callbacks)),
      state_(options_.self.state),
      keeper_(etcd, scheduler, options_.ttl, options_.seed,
              {.changed = [this] { LeaseChanged(); }, .trouble = TroubleOf(kLease)}),
      registrar_(
          etcd, scheduler, keys_.Node(options_.self.id), [this] { RegistrationChanged(); },
          TroubleOf(kRegistration)),
      nodes_(
          etcd, scheduler, keys_.Nodes(), [this] { NodesChanged(); }, TroubleOf(kNodes)),
      coordinator_entry_(
          etcd, scheduler, keys_.Coordinator(),
          [this] {
            EtcdDoes(kElection);
            coordinator_.Look();
            callbacks_.on_change();
          },
          TroubleOf(kElection)),
      table_(
          etcd, scheduler, keys_.Table(), [this] { TableChanged(); }, TroubleOf(kTable)),
      claims_(etcd, scheduler, keys_.Claims(options_.self.id), options_.self.id,
              options_.self.generation, TroubleOf(kClaim)),
      coordinator_(etcd, scheduler, keys_, OptionsOfCoordinator(options_),
                   {&nodes_, &coordinator_entry_, &table_, &known_, &acts_under_},
                   TroubleOf(kLeading)),
      audit_(scheduler, [this] { Audit(); }) {
  UpdateFence();
}

ClusterNode::~ClusterNode() { fence_->ServeUntil(absl::UnixEpoch(), FenceReason::kLeft); }

void ClusterNode::Start() {
  keeper_.Start();
  ListAnew();
}

void ClusterNode::Leave(std::function<void()> done) {
  left_ = true;
  acts_under_ = {};
  UpdateFence();
  coordinator_.Stop();
  audit_.Cancel();
  registrar_.Want({}, EtcdLease{});
  claims_.SetLease(EtcdLease{});
  for (EtcdMirror* mirror : {&nodes_, &coordinator_entry_, &table_}) mirror->Stop();
  keeper_.Stop(std::move(done));
}

void ClusterNode::ListAnew() {
  for (EtcdMirror* mirror : {&nodes_, &coordinator_entry_, &table_}) mirror->Start();
}

void ClusterNode::LeaseChanged() {
  if (left_) return;
  const EtcdLease lease = keeper_.lease();
  if (lease != EtcdLease{}) EtcdDoes(kLease);
  if (lease != seen_lease_) {
    // An etcd that lost the lease may have lost more, and begun to count anew.
    if (lease == EtcdLease{}) ListAnew();
    seen_lease_ = lease;
    WantRegistration();
    return RegistrationChanged();
  }
  UpdateFence();
  callbacks_.on_change();
}

void ClusterNode::WantRegistration() {
  v1::NodeRegistration registration;
  NodeInfo self = options_.self;
  self.state = state_;
  *registration.mutable_node() = ToProto(self);
  registration.mutable_node()->set_version(options_.version);
  *registration.mutable_layout() = options_.layout;
  registration.set_lanes(options_.lanes);
  registration.set_started_unix_ms(options_.started_unix_ms);
  registration.set_known_epoch(ToInt(known_.epoch()));
  registration.set_known_chain(known_.chain);
  registrar_.Want(std::move(registration), keeper_.lease());
}

void ClusterNode::RegistrationChanged() {
  if (left_) return;
  acts_under_ = registrar_.registered();
  // A refusal is an answer, too.
  if (acts_under_ != EtcdLease{} || !registrar_.refusal().ok()) EtcdDoes(kRegistration);
  claims_.SetLease(acts_under_);
  if (acts_under_ != EtcdLease{} && audited_lease_ != acts_under_) audit_.Set(absl::ZeroDuration());
  UpdateFence();
  coordinator_.Look();
  callbacks_.on_change();
}

void ClusterNode::NodesChanged() {
  EtcdDoes(kNodes);
  if (acts_under_ != EtcdLease{}) {
    const EtcdEntry* own = nodes_.Find(keys_.Node(options_.self.id));
    if (own == nullptr || own->lease != acts_under_) registrar_.Check();
  } else if (!registrar_.refusal().ok()) {
    registrar_.Check();  // the other may be gone
  }
  coordinator_.Look();
  callbacks_.on_change();
}

void ClusterNode::TableChanged() {
  EtcdDoes(kTable);
  absl::StatusOr<StoredTable> stored = ReadTable(table_.entries(), keys_, known_);
  table_trouble_ = stored.status();
  const bool nothing_yet = absl::IsNotFound(table_trouble_) && known_.table == nullptr;
  if (nothing_yet) table_trouble_ = absl::OkStatus();
  if (stored.ok() && stored->table != known_.table) {
    known_ = *std::move(stored);
    progress_ = ProgressOf(*known_.table, options_.replicas);
    capacity_troubles_ = CapacityTroubles(known_.table->nodes(), options_.replicas);
    claims_.Follow(*known_.table);
    // Lanes must not answer by a table that speaks of another life of this node.
    UpdateFence();
    callbacks_.on_table(known_.table);
  } else if (absl::IsFailedPrecondition(table_trouble_) || absl::IsNotFound(table_trouble_)) {
    WantRegistration();  // whoever coordinates must hear of what this node knows
  }
  UpdateFence();
  coordinator_.Look();
  callbacks_.on_change();
}

void ClusterNode::Audit() {
  audit_.Set(options_.ttl * kTtlsBetweenAudits);
  etcd_->List(keys_.Head(), kAuditTimeout,
              life_.Guard([this, lease = acts_under_](const absl::StatusOr<EtcdListing>& listing) {
                if (left_) return;
                if (listing.ok()) return TakeAudit(lease, *listing);
                TroubleOf(kAudit)(listing.status());
                audit_.Set(kAuditRetryAfter);
              }));
}

void ClusterNode::TakeAudit(EtcdLease lease, const EtcdListing& listing) {
  EtcdDoes(kAudit);
  const auto entry = std::find_if(listing.entries.begin(), listing.entries.end(),
                                  [this](const EtcdEntry& e) { return e.key == keys_.Head(); });
  const EtcdEntry* mirrored = table_.Find(keys_.Head());
  const int64_t has = mirrored == nullptr ? 0 : mirrored->mod_revision;
  // A watch that says nothing of what an audit saw long ago, or of an etcd that counts anew.
  if (has < audited_head_ || listing.revision < table_.revision()) ListAnew();
  audited_head_ = entry == listing.entries.end() ? 0 : entry->mod_revision;
  if (lease != EtcdLease{} && lease != audited_lease_) {
    v1::TableHead head;
    if (entry != listing.entries.end()) (void)head.ParseFromString(entry->value);
    const bool newer = head.epoch() > ToInt(known_.epoch());
    const bool same = head.epoch() == ToInt(known_.epoch()) && head.chain() == known_.chain;
    if (newer || same) {
      required_epoch_ = Epoch{head.epoch()};
      audited_lease_ = lease;
    } else {
      // What this node knows is of another past: others may go by what etcd has now.
      ListAnew();
      audit_.Set(kListAnewEvery);
    }
  }
  UpdateFence();
  callbacks_.on_change();
}

std::optional<FenceReason> ClusterNode::Obstacle() const {
  if (left_) return FenceReason::kLeft;
  if (!registrar_.refusal().ok()) return FenceReason::kIdTaken;
  if (acts_under_ == EtcdLease{} || keeper_.lease() != acts_under_) {
    return audited_lease_ == EtcdLease{} ? FenceReason::kNotJoined : FenceReason::kLeaseLost;
  }
  if (!table_trouble_.ok()) return FenceReason::kTableUnread;
  if (audited_lease_ != acts_under_ || known_.epoch() < required_epoch_) {
    return FenceReason::kTableBehind;
  }
  if (known_.table == nullptr) return std::nullopt;
  const std::optional<NodeIndex> self = known_.table->FindNode(options_.self.id);
  const bool other =
      self.has_value() && known_.table->node(*self).generation != options_.self.generation;
  return other ? std::optional(FenceReason::kOtherLife) : std::nullopt;
}

void ClusterNode::UpdateFence() {
  const std::optional<FenceReason> obstacle = Obstacle();
  if (obstacle.has_value()) {
    fence_->ServeUntil(absl::UnixEpoch(), *obstacle);
  } else {
    fence_->ServeUntil(keeper_.valid_until());
  }
}

void ClusterNode::SetDraining(bool draining) {
  state_ = draining ? NodeState::kDraining : NodeState::kActive;
  if (!left_) WantRegistration();
}

void ClusterNode::Claim(const std::vector<SlotClaim>& claims) { claims_.Add(claims); }

void ClusterNode::ReportMissed(const MissedWrite& missed) {
  claims_.AddMissed(missed);
  if (known_.table != nullptr) claims_.Follow(*known_.table);
}

std::function<void(const absl::Status&)> ClusterNode::TroubleOf(Asker asker) {
  return [this, asker](const absl::Status& status) {
    etcd_troubles_[asker] = {status, scheduler_->now()};
    callbacks_.on_change();
  };
}

absl::Status ClusterNode::EtcdTrouble() const {
  for (size_t asker = 0; asker < kAskers; ++asker) {
    const EtcdFailure& failure = etcd_troubles_[asker];
    if (failure.status.ok()) continue;
    if (asker > kAudit && scheduler_->now() - failure.at >= kTroubleLasts) continue;
    return failure.status;
  }
  return absl::OkStatus();
}

std::vector<Member> ClusterNode::ListNodes() const {
  std::vector<Member> members;
  for (const RosterNode& node : ReadRoster(nodes_.entries(), keys_).nodes) {
    members.push_back({.node = node.node, .heard_from = true, .version = node.version});
  }
  return members;
}

ClusterNodeStatus ClusterNode::status() const {
  ClusterNodeStatus status{.registered = acts_under_ != EtcdLease{},
                           .lease = static_cast<int64_t>(keeper_.lease()),
                           .serves_until = fence_->until(),
                           .coordinator = {},
                           .coordinator_since = absl::InfinitePast(),
                           .coordinates = coordinator_.leads(),
                           .epoch = known_.epoch(),
                           .progress = progress_,
                           .troubles = {},
                           .etcd_trouble = {}};
  const EtcdEntry* entry = coordinator_entry_.Find(keys_.Coordinator());
  v1::CoordinatorEntry coordinator;
  if (entry != nullptr && coordinator.ParseFromString(entry->value)) {
    status.coordinator = coordinator.node_id();
    if (coordinator.elected_unix_ms() != 0)
      status.coordinator_since = absl::FromUnixMillis(coordinator.elected_unix_ms());
  }
  const auto add = [&](const absl::Status& trouble) {
    if (!trouble.ok()) status.troubles.emplace_back(trouble.message());
  };
  add(registrar_.refusal());
  add(table_trouble_);
  add(EtcdTrouble());
  status.etcd_trouble = std::string(EtcdTrouble().message());
  if (progress_.degraded > 0) {
    const size_t nodes = known_.table->nodes().size();
    status.troubles.push_back(absl::StrCat(progress_.degraded, " slots have fewer than ",
                                           options_.replicas, " copies: ", nodes,
                                           nodes == 1 ? " node is there" : " nodes are there"));
  }
  status.troubles.insert(status.troubles.end(), capacity_troubles_.begin(),
                         capacity_troubles_.end());
  std::vector<std::string> refused = coordinator_.troubles();
  if (!coordinator_.leads()) {
    // What the coordinator says of itself, anybody can tell of the nodes.
    const absl::StatusOr<v1::TableHead> head = ReadHead(table_.entries(), keys_);
    if (head.ok()) {
      refused = AdmitNodes(ReadRoster(nodes_.entries(), keys_), known_.table.get(), head->layout())
                    .troubles;
    }
  }
  status.troubles.insert(status.troubles.end(), refused.begin(), refused.end());
  return status;
}

}  // namespace latentd
