// `EtcdMirror` keeps a copy of every entry under a prefix: it lists them, watches from there on,
// and lists again when etcd can no longer tell what happened in between.
//
// The scheduler's thread only. `on_change` runs after what is new is in entries(), never inside
// Start; it may destroy nothing of this.
#ifndef LATENTD_DAEMON_MEMBERSHIP_ETCD_MIRROR_H_
#define LATENTD_DAEMON_MEMBERSHIP_ETCD_MIRROR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd.h"
#include "daemon/etcd/scheduler.h"
#include "daemon/membership/timer.h"

namespace latentd {

using EtcdEntries = std::map<std::string, EtcdEntry>;

class EtcdMirror {
 public:
  // `trouble` is told of every failure that etcd has to be asked again for.
  EtcdMirror(Etcd* etcd, Scheduler* scheduler, std::string prefix, std::function<void()> on_change,
             std::function<void(const absl::Status&)> trouble);

  void Start();
  // Forgets everything, until the next Start.
  void Stop();

  // Whether there has been a listing. From then on the entries are a past state of etcd's.
  bool synced() const { return synced_; }
  const EtcdEntries& entries() const { return entries_; }
  const EtcdEntry* Find(const std::string& key) const;
  int64_t revision() const { return revision_; }
  // Grows whenever the entries change.
  uint64_t changes() const { return changes_; }

 private:
  void List();
  void Take(EtcdListing listing);
  void Watch();
  void Apply(int64_t revision, std::vector<EtcdEvent> events);

  Etcd* const etcd_;
  const std::string prefix_;
  const std::function<void()> on_change_;
  const std::function<void(const absl::Status&)> trouble_;
  uint64_t run_ = 0;  // of Start: answers to earlier ones are not heard
  bool synced_ = false;
  int64_t revision_ = 0;
  uint64_t changes_ = 0;
  EtcdEntries entries_;
  std::unique_ptr<EtcdWatch> watch_;
  Timer list_again_;
  Lifetime life_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_ETCD_MIRROR_H_
