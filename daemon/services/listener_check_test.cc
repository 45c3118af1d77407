#include "daemon/services/listener_check.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/services/control_server.h"

namespace latentd {
namespace {

// Listens and never accepts.
class DeafListener {
 public:
  DeafListener() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    REQUIRE(listen(socket_, 100) == 0);
    socklen_t size = sizeof(address);
    REQUIRE(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  ~DeafListener() { close(socket_); }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  const int socket_;
  int port_ = 0;
};

bool Eventually(const ListenerCheck& check, bool answers) {
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (check.answers() != answers && absl::Now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return check.answers() == answers;
}

TEST_CASE("a listener that never accepts is found out") {
  const DeafListener deaf;
  const ListenerCheck check(
      deaf.address(),
      {.interval = absl::Milliseconds(1), .timeout = absl::Milliseconds(20), .silences = 2});
  CHECK(Eventually(check, false));
}

TEST_CASE("a control server answers, and so does an address that refuses") {
  auto server = ControlServer::Start({}, {});
  REQUIRE(server.ok());
  const std::string address = (*server)->address();
  // Any silence counts: but for one of a minute there is none.
  const ListenerCheckOptions strict{
      .interval = absl::Milliseconds(1), .timeout = absl::Minutes(1), .silences = 1};
  const ListenerCheck check(address, strict);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(check.answers());
  (*server)->Shutdown(absl::Now());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(check.answers());
}

}  // namespace
}  // namespace latentd
