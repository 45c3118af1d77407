// What an `EtcdClient` must know. A value.
#ifndef LATENTD_DAEMON_ETCD_ETCD_OPTIONS_H_
#define LATENTD_DAEMON_ETCD_ETCD_OPTIONS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace latentd {

// PEM files, read again when they change.
struct EtcdTls {
  std::string ca_path;    // authorities that the members' certificates must come from
  std::string cert_path;  // of this client, with key_path; both empty: it shows none
  std::string key_path;
};

struct EtcdOptions {
  // "host:port" of every member. The first is used as long as it answers, then the next, so give
  // different clients different orders.
  std::vector<std::string> endpoints;
  std::optional<EtcdTls> tls;  // none: plaintext
  // With authentication: the password is the first line of the file, which is read when a token is
  // needed. Empty: without.
  std::string user;
  std::string password_path;

  // A watch whose member has been silent for so long asks it for a sign of life, and moves on to
  // the next when there is none for as long again.
  absl::Duration watch_silence = absl::Seconds(2);
  absl::Duration tls_reload = absl::Seconds(60);
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_ETCD_OPTIONS_H_
