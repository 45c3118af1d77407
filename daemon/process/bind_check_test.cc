#include "daemon/process/bind_check.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace latentd {
namespace {

TEST_CASE("a free port can be listened on") { CHECK(CheckBindable("127.0.0.1:0").ok()); }

TEST_CASE("a port that somebody listens on is refused with the address and the reason") {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(listen(socket, 1) == 0);
  socklen_t length = sizeof(address);
  REQUIRE(getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  const std::string listen = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  const absl::Status status = CheckBindable(listen);
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(status.message()) == listen + ": Address already in use");
  close(socket);
}

TEST_CASE("an address of another machine is refused with the reason") {
  const absl::Status status = CheckBindable("192.0.2.1:7400");
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(status.message()).find("Cannot assign") != std::string::npos);
}

TEST_CASE("what is no address is refused") {
  CHECK(CheckBindable("7400").code() == absl::StatusCode::kInvalidArgument);
  CHECK(CheckBindable("::::1:7400").code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace latentd
