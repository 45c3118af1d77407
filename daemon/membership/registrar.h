// `Registrar` keeps this node's entry at etcd as it should be, under the node's lease. An entry of
// another life of the same id, under a lease that still lives, is left alone: two nodes with one id
// would answer for the same slots.
//
// The scheduler's thread only.
#ifndef LATENTD_DAEMON_MEMBERSHIP_REGISTRAR_H_
#define LATENTD_DAEMON_MEMBERSHIP_REGISTRAR_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/etcd/etcd.h"
#include "daemon/etcd/scheduler.h"
#include "daemon/membership/timer.h"
#include "proto/latentd/v1/membership.pb.h"

namespace latentd {

class Registrar {
 public:
  // `changed`: registered() or refusal() has. `trouble`: etcd did not do.
  Registrar(Etcd* etcd, Scheduler* scheduler, std::string key, std::function<void()> changed,
            std::function<void(const absl::Status&)> trouble);

  // What the entry should say from now on, under which lease (0: there is none to be had).
  void Want(v1::NodeRegistration registration, EtcdLease lease);
  // Looks again: somebody may have changed the entry.
  void Check();

  // The lease under which the entry is known to have been written, as this node; 0: none.
  EtcdLease registered() const { return registered_; }
  // FAILED_PRECONDITION: who has the id, and since when.
  const absl::Status& refusal() const { return refusal_; }

 private:
  void Read();
  void Decide(const absl::StatusOr<EtcdListing>& listing);
  void Write(int64_t over_revision);
  void End(const absl::Status& trouble);

  Etcd* const etcd_;
  const std::string key_;
  const std::function<void()> changed_;
  const std::function<void(const absl::Status&)> trouble_;
  v1::NodeRegistration wanted_;
  EtcdLease lease_{};
  EtcdLease registered_{};
  absl::Status refusal_;
  bool busy_ = false;
  bool again_ = false;  // something changed while busy
  Timer retry_;
  Lifetime life_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_REGISTRAR_H_
