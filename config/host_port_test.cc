#include "config/host_port.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

TEST_CASE("names, IPv4 and bracketed IPv6 addresses are read with their port and written back") {
  for (const std::string text :
       {"node-a:7400", "10.0.0.1:0", "[::1]:65535", "a.b_c.example:1", "[fe80::1%eth0]:7400"}) {
    const auto address = ParseHostPort(text);
    REQUIRE(address.ok());
    CHECK(ToString(*address) == text);
  }
  CHECK(ParseHostPort("[::1]:80").value() == HostPort{"::1", 80});
}

TEST_CASE("what is not host:port is refused by name") {
  for (const std::string text : {"", ":", ":7400", "host", "host:", "host:65536", "host:-1",
                                 "host:+1", "host: 1", "host:7400 ", "ho st:1", "http://host:1",
                                 "::1:7400", "[::1]", "[host]:1", "[]:1", "host:99999999999"}) {
    const auto address = ParseHostPort(text);
    REQUIRE_FALSE(address.ok());
    CHECK(std::string(address.status().message()).find("'" + text + "' is not an address") == 0);
  }
}

TEST_CASE("a host has no port, no blanks and a bounded length") {
  CHECK(CheckHost("10.0.0.1").ok());
  CHECK(CheckHost("::1").ok());
  CHECK_FALSE(CheckHost("").ok());
  CHECK_FALSE(CheckHost("host:7400").ok());
  CHECK_FALSE(CheckHost("ho st").ok());
  CHECK_FALSE(CheckHost(std::string(254, 'a')).ok());
}

}  // namespace
}  // namespace latentd
