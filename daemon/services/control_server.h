// `ControlServer` is the gRPC server of one daemon: it listens, secures, limits and serves what it
// is given, besides grpc.health.v1 and reflection, and ends promptly.
//
// Any thread; Shutdown once. Services must outlive it.
#ifndef LATENTD_DAEMON_SERVICES_CONTROL_SERVER_H_
#define LATENTD_DAEMON_SERVICES_CONTROL_SERVER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/config.h"
#include "daemon/services/calls_under_way.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace latentd {

struct ControlServerOptions {
  std::string listen = "127.0.0.1:0";  // port 0: any free one
  std::optional<TlsConfig> tls;        // none: plaintext
  absl::Duration tls_reload = absl::Seconds(30);
};

class ControlServer {
 public:
  // FAILED_PRECONDITION: the TLS files cannot work. UNAVAILABLE: the address cannot be listened on.
  // The message names the key of the configuration.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Start(
      const ControlServerOptions& options, const std::vector<grpc::Service*>& services);
  ~ControlServer();

  int port() const { return port_; }
  // "host:port" with the port that it really is.
  const std::string& address() const { return address_; }

  // What grpc.health.v1 answers. NOT_SERVING until the first call.
  void SetServing(bool serving);

  // Gives the calls that run until `deadline`, then cancels them and closes every connection.
  // Without calls that is at once, even if a client hangs.
  void Shutdown(absl::Time deadline);

 private:
  ControlServer() = default;

  CallsUnderWay calls_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::string address_;
};

// Whether nobody outside this machine can reach a listener on "host:port".
bool IsLoopback(const std::string& listen);

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_CONTROL_SERVER_H_
