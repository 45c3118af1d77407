#include "daemon/metrics/metrics_server.h"

#include <netdb.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "config/host_port.h"
#include "daemon/process/bind_check.h"

namespace latentd {
namespace {

// Connects to "host:port" and hangs up.
void Connect(const std::string& address) {
  absl::StatusOr<HostPort> to = ParseHostPort(address);
  if (!to.ok()) return;
  if (to->host == "0.0.0.0") to->host = "127.0.0.1";
  if (to->host == "::") to->host = "::1";
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(to->host.c_str(), std::to_string(to->port).c_str(), &hints, &found) != 0) return;
  const int socket = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket >= 0) {
    (void)connect(socket, found->ai_addr, found->ai_addrlen);
    close(socket);
  }
  freeaddrinfo(found);
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& listen, std::shared_ptr<prometheus::Collectable> collectable) {
  // The library says no more than "null context" when it cannot listen.
  if (absl::Status bindable = CheckBindable(listen); !bindable.ok()) {
    return absl::Status(bindable.code(), absl::StrCat("metrics.listen: ", bindable.message()));
  }
  const size_t colon = listen.rfind(':');
  const std::string host = listen.substr(0, colon);
  auto server = std::unique_ptr<MetricsServer>(new MetricsServer());
  try {
    // A scrape is short and rare: one thread. Without a host it takes the port alone.
    server->exposer_ =
        std::make_unique<prometheus::Exposer>(host.empty() ? listen.substr(colon + 1) : listen, 1);
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        absl::StrCat("metrics.listen: cannot listen on ", listen, ": ", error.what()));
  }
  server->collectable_ = std::move(collectable);
  server->exposer_->RegisterCollectable(server->collectable_);
  const std::vector<int> ports = server->exposer_->GetListeningPorts();
  server->address_ =
      absl::StrCat(host, ":", ports.empty() ? listen.substr(colon + 1) : absl::StrCat(ports[0]));
  return server;
}

// The library's acceptor looks up from its poll only every two seconds, or when somebody connects.
MetricsServer::~MetricsServer() {
  std::atomic<bool> stopped = false;
  std::thread stopper([&] {
    exposer_.reset();
    stopped = true;
  });
  while (!stopped) {
    Connect(address_);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  stopper.join();
}

}  // namespace latentd
