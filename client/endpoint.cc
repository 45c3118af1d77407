#include "client/endpoint.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

bool AllOf(std::string_view text, bool (*is)(unsigned char), std::string_view others) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return is(static_cast<unsigned char>(c)) || others.find(c) != std::string_view::npos;
  });
}

bool IsHost(std::string_view host) {
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) {
    return AllOf(host.substr(1, host.size() - 2), absl::ascii_isalnum, ":.%") &&
           host.find(':') != std::string_view::npos;
  }
  return !host.empty() && host.front() != '-' && AllOf(host, absl::ascii_isalnum, ".-_");
}

bool IsPort(std::string_view digits) {
  uint32_t port = 0;
  return AllOf(digits, absl::ascii_isdigit, "") && absl::SimpleAtoi(std::string(digits), &port) &&
         port >= 1 && port <= 65535;
}

}  // namespace

absl::Status CheckEndpoint(std::string_view endpoint) {
  const size_t colon = endpoint.rfind(':');
  if (colon != std::string_view::npos && IsHost(endpoint.substr(0, colon)) &&
      IsPort(endpoint.substr(colon + 1))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("endpoint '", std::string(endpoint),
                   "': expected HOST:PORT with a port from 1 to 65535, such as 10.0.0.1:7400 or "
                   "[::1]:7400"));
}

}  // namespace latentd
