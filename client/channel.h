// gRPC channels to daemons, and their statuses as ours. Used by the client and by tools that speak
// the control plane only. Thread-safe.
#ifndef LATENTD_CLIENT_CHANNEL_H_
#define LATENTD_CLIENT_CHANNEL_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/tls_files.h"
#include "grpcpp/channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/status.h"

namespace latentd {

// Reads the files. INVALID_ARGUMENT or NOT_FOUND naming the file.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const TlsFiles& tls);

// Connects when first used, and again by itself.
std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& endpoint, const std::shared_ptr<grpc::ChannelCredentials>& credentials);

// The canonical code with the message behind `context` ("10.0.0.1:7400: connection refused").
absl::Status FromGrpcStatus(const grpc::Status& status, std::string_view context);

}  // namespace latentd

#endif  // LATENTD_CLIENT_CHANNEL_H_
