#include "daemon/process/bind_check.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

// 0, or errno.
int TryBind(const addrinfo& address) {
  const int socket = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return errno;
  // As servers do: connections of a predecessor that linger are no reason. A listener is.
  const int on = 1;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const int failure =
      bind(socket, address.ai_addr, address.ai_addrlen) == 0 && listen(socket, 1) == 0 ? 0 : errno;
  close(socket);
  return failure;
}

}  // namespace

absl::Status CheckBindable(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("\"", listen, "\" is not host:port"));
  }
  std::string host = listen.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int failure = getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                      listen.c_str() + colon + 1, &hints, &found);
      failure != 0) {
    return absl::InvalidArgumentError(absl::StrCat(listen, ": ", gai_strerror(failure)));
  }
  const std::unique_ptr<addrinfo, FreeAddresses> addresses(found);
  // One that works is enough: a name may have an address of a family that is switched off.
  int failure = 0;
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    failure = TryBind(*address);
    if (failure == 0) return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat(listen, ": ", std::strerror(failure)));
}

}  // namespace latentd
