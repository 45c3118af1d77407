#include "config/host_port.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

constexpr size_t kMaxHostLength = 253;  // of a DNS name

absl::Status NotHostPort(std::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "'", std::string(text), "' is not an address such as 10.0.0.1:7400 or [::1]:7400"));
}

bool IsHostCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_' ||
         c == ':' || c == '%';  // the last two in IPv6 addresses
}

}  // namespace

std::string ToString(const HostPort& address) {
  const bool brackets = address.host.find(':') != std::string::npos;
  return brackets ? absl::StrCat("[", address.host, "]:", address.port)
                  : absl::StrCat(address.host, ":", address.port);
}

absl::Status CheckHost(std::string_view host) {
  // Two colons at least, else it is a host with a port.
  const auto colons = std::count(host.begin(), host.end(), ':');
  if (host.empty() || host.size() > kMaxHostLength || colons == 1 ||
      !std::all_of(host.begin(), host.end(), IsHostCharacter)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", std::string(host), "' is not a host name or address"));
  }
  return absl::OkStatus();
}

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return NotHostPort(text);
  std::string_view host = text.substr(0, colon);
  const bool brackets = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  const bool ipv6 = host.find(':') != std::string_view::npos;
  if (brackets != ipv6 || !CheckHost(host).ok()) return NotHostPort(text);

  const std::string digits(text.substr(colon + 1));
  uint32_t port = 0;
  const bool all_digits = std::all_of(digits.begin(), digits.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
  if (!all_digits || !absl::SimpleAtoi(digits, &port) || port > 65535) return NotHostPort(text);
  return HostPort{std::string(host), static_cast<uint16_t>(port)};
}

bool IsWildcard(std::string_view host) { return host == "0.0.0.0" || host == "::"; }

}  // namespace latentd
