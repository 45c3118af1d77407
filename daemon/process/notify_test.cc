#include "daemon/process/notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <string>

namespace latentd {
namespace {

// A service manager's end of the notification socket, in the abstract namespace.
class FakeManager {
 public:
  FakeManager() : name_("latentd-notify-test-" + std::to_string(getpid())) {
    socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name_.data(), name_.size());
    const socklen_t length = offsetof(sockaddr_un, sun_path) + 1 + name_.size();
    REQUIRE(bind(socket_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    setenv("NOTIFY_SOCKET", ("@" + name_).c_str(), 1);
  }
  ~FakeManager() {
    unsetenv("NOTIFY_SOCKET");
    close(socket_);
  }
  std::string Next() {
    char buffer[512];
    const ssize_t length = recv(socket_, buffer, sizeof(buffer), 0);
    return length < 0 ? "" : std::string(buffer, static_cast<size_t>(length));
  }

 private:
  std::string name_;
  int socket_ = -1;
};

TEST_CASE("the service manager hears of every step of the daemon's life") {
  FakeManager manager;
  NotifyReady("serving");
  CHECK(manager.Next() == "READY=1\nSTATUS=serving");
  NotifyStatus("draining");
  CHECK(manager.Next() == "STATUS=draining");
  NotifyWatchdog();
  CHECK(manager.Next() == "WATCHDOG=1");
  NotifyStopping("stopping", absl::Seconds(30));
  CHECK(manager.Next() == "STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000\nSTATUS=stopping");
}

TEST_CASE("without a service manager nothing happens") {
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  NotifyReady("serving");
  CHECK_FALSE(WatchdogTimeout().has_value());
}

TEST_CASE("the watchdog's timeout is the manager's, if it is meant for this process") {
  setenv("WATCHDOG_USEC", "10000000", 1);
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  CHECK(WatchdogTimeout() == absl::Seconds(10));
  setenv("WATCHDOG_PID", "1", 1);
  CHECK_FALSE(WatchdogTimeout().has_value());
  unsetenv("WATCHDOG_USEC");
  unsetenv("WATCHDOG_PID");
}

}  // namespace
}  // namespace latentd
