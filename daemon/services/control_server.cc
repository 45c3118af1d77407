#include "daemon/services/control_server.h"

#include <arpa/inet.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "daemon/process/bind_check.h"
#include "daemon/process/log.h"
#include "daemon/services/credentials.h"
#include "daemon/services/tls_files.h"

namespace latentd {
namespace {

// The largest request is a worker's address; answers (a table of 65,536 ranges) may be larger.
constexpr int kMaxRequestBytes = 1 << 20;
// Of the synchronous kind, which only reflection needs: its streams hold one each for as long as
// their client likes. latentd's services and health answer without them.
constexpr int kMaxThreads = 8;
// For the last answers to leave and for clients to hang up.
constexpr absl::Duration kHangUpGrace = absl::Milliseconds(100);

std::string HostOf(const std::string& listen) {
  std::string host = listen.substr(0, listen.rfind(':'));
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  }
  return host;
}

// Notices a client that vanished within seconds, and tolerates clients that do the same with us.
void SetKeepalive(grpc::ServerBuilder& builder) {
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
}

void LogForGrpc(gpr_log_func_args* event) {
  const LogSeverity severity = event->severity == GPR_LOG_SEVERITY_ERROR  ? LogSeverity::kError
                               : event->severity == GPR_LOG_SEVERITY_INFO ? LogSeverity::kInfo
                                                                          : LogSeverity::kDebug;
  LogEvent(severity, "gRPC", {{"says", event->message}});
}

// The log, plugins and the default health service are settings of the process, not of a builder.
void SetUpGrpcOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    gpr_set_log_function(LogForGrpc);
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(
    const ControlServerOptions& options) {
  if (!options.tls) {
    if (!IsLoopback(options.listen)) {
      LogWarn(
          "the control plane is plaintext: anybody who reaches it can open sessions and drain; "
          "set control.tls",
          {{"listen", options.listen}});
    }
    return grpc::InsecureServerCredentials();
  }
  absl::StatusOr<CertificateFacts> facts = CheckTlsFiles(*options.tls, absl::Now());
  if (!facts.ok()) return facts.status();
  LogInfo("control plane secured by mutual TLS",
          {{"subject", facts->subject},
           {"expires", absl::FormatTime(absl::RFC3339_sec, facts->expires, absl::UTCTimeZone())}});
  return MutualTlsCredentials(*options.tls, options.tls_reload);
}

}  // namespace

bool IsLoopback(const std::string& listen) {
  const std::string host = HostOf(listen);
  if (host == "localhost" || host == "::1") return true;
  in_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Start(
    const ControlServerOptions& options, const std::vector<grpc::Service*>& services) {
  SetUpGrpcOnce();
  absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> credentials = MakeCredentials(options);
  if (!credentials.ok()) return credentials.status();
  // gRPC itself says no more than that it did not start.
  if (absl::Status bindable = CheckBindable(options.listen); !bindable.ok()) {
    return absl::Status(bindable.code(), absl::StrCat("control.listen: ", bindable.message()));
  }

  auto control = std::unique_ptr<ControlServer>(new ControlServer());
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.listen, *credentials, &control->port_);
  // Otherwise a second daemon on the same port would silently take half of the connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  SetKeepalive(builder);
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.SetResourceQuota(grpc::ResourceQuota("latentd").SetMaxThreads(kMaxThreads));
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(control->calls_.MakeInterceptorFactory());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  control->server_ = builder.BuildAndStart();
  if (control->server_ == nullptr || control->port_ == 0) {
    return absl::UnavailableError(
        absl::StrCat("control.listen: cannot listen on ", options.listen));
  }
  control->address_ =
      absl::StrCat(options.listen.substr(0, options.listen.rfind(':')), ":", control->port_);
  control->SetServing(false);
  return control;
}

ControlServer::~ControlServer() {
  if (server_ != nullptr) Shutdown(absl::Now());
}

void ControlServer::SetServing(bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(serving);
}

void ControlServer::Shutdown(absl::Time deadline) {
  calls_.AwaitNone(deadline);
  // gRPC waits for its clients to hang up; one that hangs would hold it until the deadline.
  server_->Shutdown(absl::ToChronoTime(std::min(deadline, absl::Now() + kHangUpGrace)));
  server_->Wait();
}

}  // namespace latentd
