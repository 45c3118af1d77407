// `EtcdTestClient` is an `EtcdClient` with a loop of its own, for a test's thread: calls wait for
// their ends.
#ifndef LATENTD_DAEMON_ETCD_TESTING_ETCD_TEST_CLIENT_H_
#define LATENTD_DAEMON_ETCD_TESTING_ETCD_TEST_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd_client.h"
#include "daemon/etcd/event_loop.h"

namespace latentd::testing {

inline constexpr absl::Duration kEtcdPatience = absl::Seconds(20);

class EtcdTestClient {
 public:
  // Throws std::runtime_error.
  explicit EtcdTestClient(EtcdOptions options);
  ~EtcdTestClient();

  absl::StatusOr<EtcdListing> List(const std::string& prefix,
                                   absl::Duration timeout = kEtcdPatience);
  absl::StatusOr<EtcdOutcome> Commit(const EtcdTransaction& transaction,
                                     absl::Duration timeout = kEtcdPatience);
  // Throws unless it is done. Returns the revision.
  int64_t Put(const std::string& key, const std::string& value, EtcdLease lease = {});
  absl::StatusOr<Etcd::Granted> GrantLease(absl::Duration ttl);
  absl::StatusOr<absl::Duration> KeepAlive(EtcdLease lease, absl::Duration timeout = kEtcdPatience);
  absl::StatusOr<bool> RevokeLease(EtcdLease lease);

  // Run `closure` on the loop and wait for it.
  void OnLoop(const std::function<void()>& closure);
  void RunOn(const std::function<void(EtcdClient&)>& closure);
  // Destroys the client, on the loop. From here on nothing but OnLoop.
  void Destroy();

 private:
  friend class EtcdTestWatch;
  template <typename T>
  absl::StatusOr<T> Wait(std::function<void(EtcdClient&, Etcd::Done<T>)> start);

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<EtcdClient> client_;
};

// Collects what a watch tells. Goes before the client.
class EtcdTestWatch {
 public:
  EtcdTestWatch(EtcdTestClient* client, const std::string& prefix, int64_t revision);
  ~EtcdTestWatch();

  // As "3:/a=1,/b=2 4:/a!": revision, then keys with their values, or "!" where they were erased.
  // Calls without events are left out.
  std::string Told() const;
  std::optional<absl::Status> End() const;
  // Whether it has told `text` in time, and nothing else before.
  bool Tells(const std::string& text) const;
  bool Ends() const;

 private:
  EtcdTestClient* const client_;
  std::unique_ptr<EtcdWatch> watch_;  // of the loop
  mutable std::mutex mutex_;
  std::string told_;
  std::optional<absl::Status> end_;
};

}  // namespace latentd::testing

#endif  // LATENTD_DAEMON_ETCD_TESTING_ETCD_TEST_CLIENT_H_
