#include "daemon/membership/etcd_mirror.h"

#include <algorithm>
#include <utility>

namespace latentd {
namespace {

constexpr absl::Duration kListTimeout = absl::Seconds(5);
constexpr absl::Duration kListAgainAfter = absl::Milliseconds(200);

}  // namespace

EtcdMirror::EtcdMirror(Etcd* etcd, Scheduler* scheduler, std::string prefix,
                       std::function<void()> on_change,
                       std::function<void(const absl::Status&)> trouble)
    : etcd_(etcd),
      prefix_(std::move(prefix)),
      on_change_(std::move(on_change)),
      trouble_(std::move(trouble)),
      list_again_(scheduler, [this] { List(); }) {}

void EtcdMirror::Start() {
  ++run_;
  List();
}

void EtcdMirror::Stop() {
  ++run_;
  list_again_.Cancel();
  watch_ = nullptr;
  synced_ = false;
  ++changes_;
  revision_ = 0;
  entries_.clear();
}

const EtcdEntry* EtcdMirror::Find(const std::string& key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : &found->second;
}

void EtcdMirror::List() {
  watch_ = nullptr;
  etcd_->List(prefix_, kListTimeout,
              life_.Guard([this, run = run_](absl::StatusOr<EtcdListing> listing) {
                if (run != run_) return;
                if (listing.ok()) return Take(*std::move(listing));
                trouble_(listing.status());
                list_again_.Set(kListAgainAfter);
              }));
}

void EtcdMirror::Take(EtcdListing listing) {
  entries_.clear();
  for (EtcdEntry& entry : listing.entries) {
    std::string key = entry.key;
    entries_.emplace(std::move(key), std::move(entry));
  }
  revision_ = listing.revision;
  synced_ = true;
  ++changes_;
  Watch();
  on_change_();
}

void EtcdMirror::Watch() {
  watch_ = etcd_->Watch(
      prefix_, revision_ + 1,
      life_.Guard([this, run = run_](int64_t revision, std::vector<EtcdEvent> events) {
        if (run == run_) Apply(revision, std::move(events));
      }),
      life_.Guard([this, run = run_](const absl::Status& end) {
        if (run != run_) return;
        // Compacted: what was missed is in the listing. Anything else may need time to mend.
        if (!absl::IsOutOfRange(end)) trouble_(end);
        list_again_.Set(absl::IsOutOfRange(end) ? absl::ZeroDuration() : kListAgainAfter);
      }));
}

void EtcdMirror::Apply(int64_t revision, std::vector<EtcdEvent> events) {
  revision_ = std::max(revision_, revision);
  if (events.empty()) return;
  ++changes_;
  for (EtcdEvent& event : events) {
    std::string key = event.entry.key;
    if (event.erased) {
      entries_.erase(key);
    } else {
      entries_.insert_or_assign(std::move(key), std::move(event.entry));
    }
  }
  on_change_();
}

}  // namespace latentd
