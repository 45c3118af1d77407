// The daemon's credentials over gRPC: mutual TLS, or none.
#ifndef LATENTD_DAEMON_SERVICES_CREDENTIALS_H_
#define LATENTD_DAEMON_SERVICES_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <optional>

#include "absl/time/time.h"
#include "config/config.h"

namespace latentd {

// Both sides show a certificate, and the client's must come from the authorities in
// `files.ca_path`. The files are read again every `reload`; a pair that does not fit together (one
// file replaced, the other not yet) is passed over until it does. REQUIRES: CheckTlsFiles is
// satisfied.
std::shared_ptr<grpc::ServerCredentials> MutualTlsCredentials(const TlsConfig& files,
                                                              absl::Duration reload);

// Of this node as a client of its peers: it shows the certificate that it serves with. Without
// `files`, plaintext. They are read again as above.
std::shared_ptr<grpc::ChannelCredentials> PeerCredentials(const std::optional<TlsConfig>& files,
                                                          absl::Duration reload);

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_CREDENTIALS_H_
