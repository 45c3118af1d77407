// `EtcdProcesses` is a real etcd of a test: one member or several, each a child process with a free
// port of 127.0.0.1 and data in a temporary folder. All of it goes with the object, or with the
// test.
//
// Not synchronised. Errors are std::runtime_error with the end of the member's log.
#ifndef LATENTD_DAEMON_ETCD_TESTING_ETCD_PROCESS_H_
#define LATENTD_DAEMON_ETCD_TESTING_ETCD_PROCESS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "config/config.h"
#include "tests/cluster/process.h"

namespace latentd::testing {

struct EtcdProcessOptions {
  size_t members = 1;
  std::optional<TlsConfig> tls;  // clients must show a certificate
  // etcd's own; an election takes one to two of them. Leases live 1.5 of them at least.
  absl::Duration election_timeout = absl::Milliseconds(500);
  std::string program = "/usr/bin/etcd";  // Debian's etcd-server
};

class EtcdProcesses {
 public:
  // Returns when every member serves.
  explicit EtcdProcesses(EtcdProcessOptions options = {});
  ~EtcdProcesses();
  EtcdProcesses(const EtcdProcesses&) = delete;
  EtcdProcesses& operator=(const EtcdProcesses&) = delete;

  size_t size() const { return members_.size(); }
  // "127.0.0.1:PORT" of each member; they stay the same.
  const std::vector<std::string>& endpoints() const { return endpoints_; }

  // Waits until there is one. By index, as all that follow.
  size_t Leader();
  void Kill(size_t member);  // SIGKILL
  void Stop(size_t member);  // SIGSTOP
  void Continue(size_t member);
  // After Kill, on the same port and data. Does not wait.
  void Restart(size_t member);
  // The same without data. Only of one member: others would not know it.
  void RestartEmpty(size_t member);
  void WaitUntilServes(size_t member);

  // Only without TLS and before EnableAuth.
  void Compact(int64_t revision);
  // From here on keys that start with `prefix` are for `user`, and others for nobody but root.
  void EnableAuth(const std::string& user, const std::string& password, const std::string& prefix);
  // Of etcd's JSON gateway: "/v3/kv/compaction". Returns the answer.
  std::string Call(const std::string& path, const std::string& json);

 private:
  struct Member {
    std::vector<std::string> argv;
    std::string metrics_address;
    std::optional<Process> process;
  };

  std::vector<std::string> Argv(size_t member, const std::vector<uint16_t>& ports) const;
  void Start(Member& member, size_t index);
  [[noreturn]] void Fail(size_t member, const std::string& what);

  const EtcdProcessOptions options_;
  const std::string folder_;
  std::vector<std::string> endpoints_;
  std::vector<Member> members_;
};

}  // namespace latentd::testing

#endif  // LATENTD_DAEMON_ETCD_TESTING_ETCD_PROCESS_H_
