// "host:port", as addresses are written in the configuration. An IPv6 address stands in brackets.
//
// Pure; any thread.
#ifndef LATENTD_CONFIG_HOST_PORT_H_
#define LATENTD_CONFIG_HOST_PORT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace latentd {

struct HostPort {
  std::string host;  // without brackets
  uint16_t port = 0;

  friend bool operator==(const HostPort&, const HostPort&) = default;
};

std::string ToString(const HostPort& address);

absl::StatusOr<HostPort> ParseHostPort(std::string_view text);

// A host name or an address, without port. Returns OK or says what is wrong.
absl::Status CheckHost(std::string_view host);

// Whether it is 0.0.0.0 or ::, an address to listen on and not one to reach.
bool IsWildcard(std::string_view host);

}  // namespace latentd

#endif  // LATENTD_CONFIG_HOST_PORT_H_
