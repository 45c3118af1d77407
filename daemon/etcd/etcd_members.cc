#include "daemon/etcd/etcd_members.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

namespace tls = grpc::experimental;

constexpr int kMaxAnswerBytes = 256 << 20;

std::shared_ptr<grpc::ChannelCredentials> Credentials(const EtcdOptions& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  const auto reload =
      static_cast<unsigned>(std::max<int64_t>(1, absl::ToInt64Seconds(options.tls_reload)));
  const EtcdTls& files = *options.tls;
  tls::TlsChannelCredentialsOptions credentials;
  if (files.cert_path.empty()) {
    credentials.set_certificate_provider(
        std::make_shared<tls::FileWatcherCertificateProvider>(files.ca_path, reload));
  } else {
    credentials.set_certificate_provider(std::make_shared<tls::FileWatcherCertificateProvider>(
        files.key_path, files.cert_path, files.ca_path, reload));
    credentials.watch_identity_key_cert_pairs();
  }
  credentials.watch_root_certs();
  return tls::TlsCredentials(credentials);
}

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments arguments;
  // A connection that is dead without a word. etcd bears a ping each 5 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 3'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // A member that comes back is found soon. The second is also what an attempt to connect may take.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  // Only this client knows what may be done twice.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Its connections end with it.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  return arguments;
}

absl::Status CheckReadable(const std::string& what, const std::string& path) {
  if (std::ifstream(path).is_open()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("etcd: ", what, " ", path, ": ", std::strerror(errno)));
}

}  // namespace

EtcdMembers::EtcdMembers(const EtcdOptions& options) {
  const auto credentials = Credentials(options);
  for (const std::string& endpoint : options.endpoints) {
    const auto channel =
        grpc::CreateCustomChannel(absl::StrCat("dns:///", endpoint), credentials, Arguments());
    members_.push_back({.endpoint = endpoint,
                        .channel = channel,
                        .kv = etcdserverpb::KV::NewStub(channel),
                        .lease = etcdserverpb::Lease::NewStub(channel),
                        .watch = etcdserverpb::Watch::NewStub(channel),
                        .auth = etcdserverpb::Auth::NewStub(channel)});
  }
}

absl::Status CheckEtcdOptions(const EtcdOptions& options) {
  if (options.endpoints.empty()) return absl::InvalidArgumentError("etcd: no endpoints");
  if (options.user.empty() != options.password_path.empty()) {
    return absl::InvalidArgumentError("etcd: a user needs a password, and a password a user");
  }
  if (!options.user.empty()) {
    if (const auto read = ReadEtcdPassword(options.password_path); !read.ok()) return read.status();
  }
  if (!options.tls) return absl::OkStatus();
  const EtcdTls& files = *options.tls;
  if (files.cert_path.empty() != files.key_path.empty()) {
    return absl::InvalidArgumentError("etcd: a certificate needs its key, and a key a certificate");
  }
  if (absl::Status ca = CheckReadable("authorities", files.ca_path); !ca.ok()) return ca;
  if (files.cert_path.empty()) return absl::OkStatus();
  if (absl::Status cert = CheckReadable("certificate", files.cert_path); !cert.ok()) return cert;
  return CheckReadable("private key", files.key_path);
}

absl::StatusOr<std::string> ReadEtcdPassword(const std::string& path) {
  if (absl::Status readable = CheckReadable("password file", path); !readable.ok()) return readable;
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  if (!line.empty()) return line;
  return absl::FailedPreconditionError(
      absl::StrCat("etcd: password file ", path, ": its first line is empty"));
}

}  // namespace latentd
