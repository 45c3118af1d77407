// Whether the files of control.tls can work: found out at the start, in words, instead of by
// clients in handshakes that fail without a reason.
//
// Any thread; reads files.
#ifndef LATENTD_DAEMON_SERVICES_TLS_FILES_H_
#define LATENTD_DAEMON_SERVICES_TLS_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/config.h"

namespace latentd {

struct CertificateFacts {
  std::string subject;
  absl::Time expires;
};

// About the daemon's own certificate, the first of `files.cert_path`. FAILED_PRECONDITION naming
// the key of the configuration and the file: one that cannot be read, holds no certificate or key,
// a key that is not the certificate's, a certificate out of its time.
absl::StatusOr<CertificateFacts> CheckTlsFiles(const TlsConfig& files, absl::Time now);

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_TLS_FILES_H_
