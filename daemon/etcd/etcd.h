// `Etcd` is the part of etcd that latentd builds on: guarded transactions, leases and watches, all
// asynchronous. `EtcdClient` speaks to a real one; a simulation offers the same on simulated time.
//
// Thread rule: one thread, the scheduler's (daemon/etcd/scheduler.h): methods are called on it, and
// every callback runs on it, never inside the call that started it. Every call ends with its
// callback, unless the object is destroyed first: then callbacks are dropped.
//
// Errors: UNAVAILABLE (no member answers: nothing happened), DEADLINE_EXCEEDED (no answer in time,
// or the connection broke before it: what was asked for may have happened), UNAUTHENTICATED and
// PERMISSION_DENIED naming the user, NOT_FOUND (no such lease), OUT_OF_RANGE (compacted). Others are
// etcd's refusal of what was asked for.
#ifndef LATENTD_DAEMON_ETCD_ETCD_H_
#define LATENTD_DAEMON_ETCD_ETCD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace latentd {

enum class EtcdLease : int64_t {};  // 0: none

struct EtcdEntry {
  std::string key;
  std::string value;
  int64_t create_revision = 0;
  int64_t mod_revision = 0;
  EtcdLease lease{};
};

// A condition of a transaction: the key's revision is as given. Revision 0: there is no such key.
struct EtcdGuard {
  enum class Field : uint8_t { kCreateRevision, kModRevision };
  std::string key;
  Field field = Field::kModRevision;
  int64_t revision = 0;
};

struct EtcdWrite {
  std::string key;
  std::string value;
  EtcdLease lease{};
  bool erase = false;         // the key goes; value and lease mean nothing
  bool erase_prefix = false;  // so does every key that starts with it
};

struct EtcdTransaction {
  std::vector<EtcdGuard> guards;  // all must hold
  std::vector<EtcdWrite> writes;  // then all of these are done, at one revision
};

struct EtcdOutcome {
  bool done = false;     // false: a guard did not hold and nothing was written
  int64_t revision = 0;  // of the cluster, after it
};

struct EtcdListing {
  std::vector<EtcdEntry> entries;  // by key
  int64_t revision = 0;
};

struct EtcdEvent {
  bool erased = false;
  EtcdEntry entry;  // erased: key and mod_revision only
};

// Ends with its destruction.
class EtcdWatch {
 public:
  virtual ~EtcdWatch() = default;
};

class Etcd {
 public:
  template <typename T>
  using Done = std::function<void(absl::StatusOr<T>)>;

  virtual ~Etcd() = default;

  // Every entry whose key starts with `prefix`, as of one revision.
  virtual void List(std::string prefix, absl::Duration timeout, Done<EtcdListing> done) = 0;
  virtual void Commit(EtcdTransaction transaction, absl::Duration timeout,
                      Done<EtcdOutcome> done) = 0;

  // The answer's time to live may be longer than what was asked for.
  struct Granted {
    EtcdLease lease{};
    absl::Duration ttl;
  };
  virtual void GrantLease(absl::Duration ttl, absl::Duration timeout, Done<Granted> done) = 0;
  // Once. NOT_FOUND: the lease is over. The answer is the time to live from when etcd answered.
  virtual void KeepAlive(EtcdLease lease, absl::Duration timeout, Done<absl::Duration> done) = 0;
  // Its keys go with it.
  virtual void RevokeLease(EtcdLease lease, absl::Duration timeout, Done<bool> done) = 0;

  // Calls `on_events` with what happens to keys that start with `prefix` from `revision` on, in
  // order, everything of one revision in one call; `revision` of a call is that of the cluster up
  // to which everything has been told (it may be a call without events). Reconnects by itself and
  // goes on where it was. `on_end` once, when it cannot go on: OUT_OF_RANGE when revisions it needs
  // were compacted (list and watch anew), or an error that trying again does not mend.
  virtual std::unique_ptr<EtcdWatch> Watch(
      std::string prefix, int64_t revision,
      std::function<void(int64_t revision, std::vector<EtcdEvent> events)> on_events,
      std::function<void(absl::Status)> on_end) = 0;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_ETCD_H_
