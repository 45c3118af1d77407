// Where a client's TLS credentials are. A value.
#ifndef LATENTD_CLIENT_TLS_FILES_H_
#define LATENTD_CLIENT_TLS_FILES_H_

#include <string>

namespace latentd {

// Paths of PEM files. All empty: plaintext. `ca` alone: the daemon is checked; with `cert` and
// `key` the client shows its own certificate too.
struct TlsFiles {
  std::string ca;
  std::string cert;
  std::string key;

  bool empty() const { return ca.empty() && cert.empty() && key.empty(); }
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_TLS_FILES_H_
