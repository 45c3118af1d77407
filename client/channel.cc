#include "client/channel.h"

#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"

namespace latentd {
namespace {

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("TLS file ", path, " cannot be read"));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// A daemon that turns a client's certificate down says so to nobody: since TLS 1.3 the client takes
// the handshake for done by then, and gRPC sees no more than a connection that is closed.
const char* TlsHint(const std::string& message) {
  if (!absl::StrContains(message, "failed to connect")) return "";
  if (absl::StrContains(message, "wrong version number")) return " (the daemon does not speak TLS)";
  if (absl::StrContains(message, "certificate verify failed")) {
    return " (the daemon's certificate is of an authority that is not trusted here, or expired)";
  }
  if (absl::StrContains(message, "Socket closed") || absl::StrContains(message, "reset by peer") ||
      absl::StrContains(message, "Broken pipe")) {
    return " (the daemon closed the new connection: it may want TLS, or turn down this side's "
           "certificate: none, expired, or of another authority)";
  }
  return "";
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const TlsFiles& tls) {
  if (tls.empty()) return grpc::InsecureChannelCredentials();
  if (tls.ca.empty() || tls.cert.empty() != tls.key.empty()) {
    return absl::InvalidArgumentError(
        "TLS takes a CA file, and a certificate and its key or neither");
  }
  grpc::SslCredentialsOptions options;
  absl::StatusOr<std::string> ca = ReadPem(tls.ca);
  if (!ca.ok()) return ca.status();
  options.pem_root_certs = *std::move(ca);
  if (!tls.cert.empty()) {
    absl::StatusOr<std::string> cert = ReadPem(tls.cert);
    if (!cert.ok()) return cert.status();
    absl::StatusOr<std::string> key = ReadPem(tls.key);
    if (!key.ok()) return key.status();
    options.pem_cert_chain = *std::move(cert);
    options.pem_private_key = *std::move(key);
  }
  return grpc::SslCredentials(options);
}

std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& endpoint, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  // A restarted daemon is to be found again at once; gRPC's own backoff goes up to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  // Despite its name, how long one attempt may take: a busy daemon is slow to greet.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // Tables of many nodes are larger than gRPC's 4 MiB.
  arguments.SetMaxReceiveMessageSize(64 << 20);
  // Nodes of a cluster are named as they are reached: no proxy in between.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(endpoint, credentials, arguments);
}

absl::Status FromGrpcStatus(const grpc::Status& status, std::string_view context) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(std::string(context), ": ", status.error_message(),
                                   TlsHint(status.error_message())));
}

}  // namespace latentd
