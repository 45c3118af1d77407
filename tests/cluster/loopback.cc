#include "tests/cluster/loopback.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <set>
#include <stdexcept>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace latentd::testing {
namespace {

constexpr int kFirstPort = 12000;
constexpr int kLastPort = 31999;

class Socket {
 public:
  Socket() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (fd_ < 0) throw std::runtime_error(absl::StrCat("socket: ", std::strerror(errno)));
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

}  // namespace

std::vector<uint16_t> FreePorts(int count) {
  std::random_device random;
  std::uniform_int_distribution<int> pick(kFirstPort, kLastPort);
  std::vector<Socket> held;
  std::set<uint16_t> ports;
  for (int attempt = 0; attempt < 1000 && std::cmp_less(ports.size(), count); ++attempt) {
    const auto port = static_cast<uint16_t>(pick(random));
    Socket socket;
    const sockaddr_in address = Loopback(port);
    if (bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      continue;
    }
    ports.insert(port);
    held.push_back(std::move(socket));
  }
  if (std::cmp_less(ports.size(), count)) throw std::runtime_error("no free loopback ports");
  return {ports.begin(), ports.end()};
}

std::string HttpGet(const std::string& address, const std::string& path, absl::Duration limit) {
  const auto fail = [&](const std::string& what) {
    throw std::runtime_error(absl::StrCat("GET http://", address, path, ": ", what));
  };
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port)) {
    fail("not an address");
  }
  Socket socket;
  const timeval wait = absl::ToTimeval(limit);
  setsockopt(socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  const sockaddr_in peer = Loopback(static_cast<uint16_t>(port));
  if (connect(socket.fd(), reinterpret_cast<const sockaddr*>(&peer), sizeof(peer)) != 0) {
    fail(std::strerror(errno));
  }
  const std::string request =
      absl::StrCat("GET ", path, " HTTP/1.0\r\nHost: ", address, "\r\nConnection: close\r\n\r\n");
  if (send(socket.fd(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    fail(std::strerror(errno));
  }
  std::string answer;
  char buffer[16384];
  ssize_t got;
  while ((got = recv(socket.fd(), buffer, sizeof(buffer), 0)) > 0) {
    answer.append(buffer, static_cast<size_t>(got));
  }
  if (got < 0) fail(std::strerror(errno));
  const size_t body = answer.find("\r\n\r\n");
  if (body == std::string::npos || answer.find(" 200 ") > answer.find("\r\n")) {
    fail(answer.substr(0, answer.find("\r\n")));
  }
  return answer.substr(body + 4);
}

}  // namespace latentd::testing
