#include "tests/sim/sim_etcd.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "absl/strings/match.h"

namespace latentd::sim {
namespace {

constexpr size_t kMostTransactionBytes = 1536 << 10;
constexpr size_t kMostOperations = 128;  // of guards, and of writes

EtcdEntries::const_iterator FirstOf(const EtcdEntries& entries, const std::string& prefix) {
  return entries.lower_bound(prefix);
}

}  // namespace

// ---- the watch: what a member pushes, one revision after the other ----

class SimWatch : public EtcdWatch {
 public:
  SimWatch(SimEtcdClient* client, std::string prefix, int64_t next,
           std::function<void(int64_t, std::vector<EtcdEvent>)> on_events,
           std::function<void(absl::Status)> on_end)
      : client_(client),
        etcd_(client->etcd_),
        id_(etcd_->next_watch_++),
        prefix_(std::move(prefix)),
        next_(next),
        on_events_(std::move(on_events)),
        on_end_(std::move(on_end)) {
    etcd_->watches_.emplace(id_, this);
    DeliverLater();
  }
  ~SimWatch() override { etcd_->watches_.erase(id_); }

  void DeliverLater() {
    if (std::exchange(scheduled_, true)) return;
    client_->loop_->After(client_->Delay(), [this, alive = std::weak_ptr<int>(alive_)] {
      if (alive.expired()) return;
      client_->clock_->Run([this, alive] {
        if (!alive.expired()) Deliver();
      });
    });
  }

 private:
  void Deliver() {
    scheduled_ = false;
    if (!client_->Passes()) return DeliverLater();  // connects again and goes on
    if (next_ <= etcd_->compacted_) {
      etcd_->watches_.erase(id_);
      const auto on_end = on_end_;
      return on_end(absl::OutOfRangeError("compacted"));
    }
    const std::weak_ptr<int> alive = alive_;
    const auto on_events = on_events_;
    while (!alive.expired()) {
      const auto change = etcd_->history_.lower_bound(next_);
      if (change == etcd_->history_.end()) break;
      next_ = change->first + 1;
      std::vector<EtcdEvent> events;
      for (const EtcdEvent& event : change->second) {
        if (absl::StartsWith(event.entry.key, prefix_)) events.push_back(event);
      }
      if (!events.empty()) on_events(change->first, std::move(events));
    }
  }

  SimEtcdClient* const client_;
  SimEtcd* const etcd_;
  const uint64_t id_;
  const std::string prefix_;
  int64_t next_;
  const std::function<void(int64_t, std::vector<EtcdEvent>)> on_events_;
  const std::function<void(absl::Status)> on_end_;
  bool scheduled_ = false;
  const std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

// ---- the server ----

EtcdListing SimEtcd::List(const std::string& prefix) const {
  EtcdListing listing;
  listing.revision = revision_;
  for (auto entry = FirstOf(entries_, prefix);
       entry != entries_.end() && absl::StartsWith(entry->first, prefix); ++entry) {
    listing.entries.push_back(entry->second);
  }
  return listing;
}

absl::StatusOr<EtcdOutcome> SimEtcd::Commit(const EtcdTransaction& transaction) {
  size_t bytes = 0;
  if (transaction.guards.size() > kMostOperations || transaction.writes.size() > kMostOperations) {
    return absl::InvalidArgumentError("etcdserver: too many operations in txn request");
  }
  for (const EtcdGuard& guard : transaction.guards) {
    const auto entry = entries_.find(guard.key);
    int64_t revision = 0;
    if (entry != entries_.end()) {
      revision = guard.field == EtcdGuard::Field::kCreateRevision ? entry->second.create_revision
                                                                  : entry->second.mod_revision;
    }
    if (revision != guard.revision) return EtcdOutcome{.done = false, .revision = revision_};
  }
  for (const EtcdWrite& write : transaction.writes) {
    bytes += write.key.size() + write.value.size();
    if (!write.erase && write.lease != EtcdLease{} && !leases_.contains(write.lease)) {
      return absl::NotFoundError("requested lease not found");
    }
  }
  if (bytes > kMostTransactionBytes) throw std::logic_error("transaction too large for etcd");
  std::vector<EtcdEvent> events;
  ++revision_;
  for (const EtcdWrite& write : transaction.writes) {
    if (write.erase_prefix) {
      std::vector<std::string> keys;
      for (auto entry = FirstOf(entries_, write.key);
           entry != entries_.end() && absl::StartsWith(entry->first, write.key); ++entry) {
        keys.push_back(entry->first);
      }
      for (const std::string& key : keys) Erase(key, events);
    } else if (write.erase) {
      Erase(write.key, events);
    } else {
      EtcdEntry& entry = entries_[write.key];
      if (entry.mod_revision == revision_) throw std::logic_error("one key twice in a transaction");
      entry.key = write.key;
      entry.value = write.value;
      entry.lease = write.lease;
      if (entry.create_revision == 0) entry.create_revision = revision_;
      entry.mod_revision = revision_;
      events.push_back({.erased = false, .entry = entry});
    }
  }
  Tell(std::move(events));
  return EtcdOutcome{.done = true, .revision = revision_};
}

void SimEtcd::Erase(const std::string& key, std::vector<EtcdEvent>& events) {
  if (entries_.erase(key) == 0) return;
  EtcdEvent event{.erased = true, .entry = {}};
  event.entry.key = key;
  event.entry.mod_revision = revision_;
  events.push_back(std::move(event));
}

void SimEtcd::Tell(std::vector<EtcdEvent> events) {
  if (events.empty()) {
    --revision_;
    return;
  }
  history_.emplace(revision_, std::move(events));
  for (const auto& [id, watch] : watches_) watch->DeliverLater();
  if (on_change_) on_change_();
}

Etcd::Granted SimEtcd::Grant(absl::Duration ttl) {
  const EtcdLease id{next_lease_++};
  leases_[id] = {.ttl = ttl};
  Renew(id);
  return {.lease = id, .ttl = ttl};
}

absl::StatusOr<absl::Duration> SimEtcd::KeepAlive(EtcdLease lease) {
  const auto found = leases_.find(lease);
  if (found == leases_.end()) return absl::NotFoundError("no such lease");
  Renew(lease);
  return found->second.ttl;
}

void SimEtcd::Renew(EtcdLease id) {
  Lease& lease = leases_.at(id);
  const uint64_t renewal = ++lease.renewals;
  // etcd is never early by its own clock, and up to half a second late.
  const absl::Duration late = random_.Between(absl::ZeroDuration(), absl::Milliseconds(500));
  loop_->After(lease.ttl / rate_ + late, [this, id, renewal] {
    const auto found = leases_.find(id);
    if (down_ || found == leases_.end() || found->second.renewals != renewal) return;
    (void)Revoke(id);
  });
}

absl::StatusOr<bool> SimEtcd::Revoke(EtcdLease lease) {
  if (leases_.erase(lease) == 0) return absl::NotFoundError("no such lease");
  std::vector<std::string> keys;
  for (const auto& [key, entry] : entries_) {
    if (entry.lease == lease) keys.push_back(key);
  }
  std::vector<EtcdEvent> events;
  ++revision_;
  for (const std::string& key : keys) Erase(key, events);
  Tell(std::move(events));
  return true;
}

void SimEtcd::SetDown(bool down) {
  if (down_ && !down) {
    for (auto& [id, lease] : leases_) Renew(id);
  }
  down_ = down;
}

void SimEtcd::Wipe() {
  entries_.clear();
  history_.clear();
  leases_.clear();
  revision_ = 1;
  compacted_ = 0;
  if (on_change_) on_change_();
}

// ---- the client ----

template <typename T>
void SimEtcdClient::Call(std::function<absl::StatusOr<T>()> operation, absl::Duration timeout,
                         Done<T> done) {
  struct State {
    Done<T> done;
    TimerId timer{};
    bool ended = false;
  };
  auto state = std::make_shared<State>();
  state->done = std::move(done);
  const auto finish = [this, alive = std::weak_ptr<int>(alive_),
                       state](const absl::StatusOr<T>& result) {
    if (alive.expired() || std::exchange(state->ended, true)) return;
    clock_->Cancel(state->timer);
    state->done(result);
  };
  state->timer = clock_->After(
      timeout, [finish] { finish(absl::DeadlineExceededError("etcd does not answer")); });
  const auto finish_later = [this, alive = std::weak_ptr<int>(alive_),
                             finish](absl::StatusOr<T> result) {
    loop_->After(Delay(), [this, alive, finish, result = std::move(result)] {
      if (alive.expired()) return;
      const bool arrives = !result.ok() || Passes();
      if (arrives) clock_->Run([finish, result] { finish(result); });
    });
  };
  if ((link_->cut || etcd_->down()) && random_.Chance(0.5)) {
    return finish_later(absl::UnavailableError("no member of etcd can be reached"));
  }
  loop_->After(Delay(), [this, alive = std::weak_ptr<int>(alive_), etcd = etcd_, finish_later,
                         operation = std::move(operation)] {
    if (alive.expired()) {
      // What is on the way arrives even if its sender is gone.
      if (!etcd->down()) (void)operation();
      return;
    }
    if (!Passes()) return;
    finish_later(operation());
  });
}

void SimEtcdClient::List(std::string prefix, absl::Duration timeout, Done<EtcdListing> done) {
  Call<EtcdListing>([etcd = etcd_, prefix = std::move(prefix)] { return etcd->List(prefix); },
                    timeout, std::move(done));
}

void SimEtcdClient::Commit(EtcdTransaction transaction, absl::Duration timeout,
                           Done<EtcdOutcome> done) {
  Call<EtcdOutcome>(
      [etcd = etcd_, transaction = std::move(transaction)] { return etcd->Commit(transaction); },
      timeout, std::move(done));
}

void SimEtcdClient::GrantLease(absl::Duration ttl, absl::Duration timeout, Done<Granted> done) {
  Call<Granted>([etcd = etcd_, ttl] { return etcd->Grant(ttl); }, timeout, std::move(done));
}

void SimEtcdClient::KeepAlive(EtcdLease lease, absl::Duration timeout, Done<absl::Duration> done) {
  Call<absl::Duration>([etcd = etcd_, lease] { return etcd->KeepAlive(lease); }, timeout,
                       std::move(done));
}

void SimEtcdClient::RevokeLease(EtcdLease lease, absl::Duration timeout, Done<bool> done) {
  Call<bool>([etcd = etcd_, lease] { return etcd->Revoke(lease); }, timeout, std::move(done));
}

std::unique_ptr<EtcdWatch> SimEtcdClient::Watch(
    std::string prefix, int64_t revision,
    std::function<void(int64_t revision, std::vector<EtcdEvent> events)> on_events,
    std::function<void(absl::Status)> on_end) {
  return std::make_unique<SimWatch>(this, std::move(prefix), revision, std::move(on_events),
                                    std::move(on_end));
}

}  // namespace latentd::sim
