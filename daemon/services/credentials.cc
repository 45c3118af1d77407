#include "daemon/services/credentials.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>

namespace latentd {

namespace tls = grpc::experimental;

namespace {

std::shared_ptr<tls::FileWatcherCertificateProvider> Watch(const TlsConfig& files,
                                                           absl::Duration reload) {
  const auto seconds = static_cast<unsigned>(std::max<int64_t>(1, absl::ToInt64Seconds(reload)));
  return std::make_shared<tls::FileWatcherCertificateProvider>(files.key_path, files.cert_path,
                                                               files.ca_path, seconds);
}

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MutualTlsCredentials(const TlsConfig& files,
                                                              absl::Duration reload) {
  tls::TlsServerCredentialsOptions options(Watch(files, reload));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  return tls::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> PeerCredentials(const std::optional<TlsConfig>& files,
                                                          absl::Duration reload) {
  if (!files) return grpc::InsecureChannelCredentials();
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(*files, reload));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  return tls::TlsCredentials(options);
}

}  // namespace latentd
