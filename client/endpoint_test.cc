#include "client/endpoint.h"

#include <catch2/catch.hpp>
#include <string>

namespace latentd {
namespace {

TEST_CASE("hosts and addresses with a port are endpoints") {
  for (const char* good : {"127.0.0.1:7400", "localhost:1", "node-a.example.org:65535",
                           "node_a:7400", "[::1]:7400", "[fe80::1%eth0]:7400"}) {
    INFO(good);
    CHECK(CheckEndpoint(good).ok());
  }
}

TEST_CASE("what gRPC would take for something else is refused and quoted") {
  for (const std::string bad :
       {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:99999",
        "127.0.0.1:+1", "127.0.0.1: 1", ":7400", "::1:7400", "[]:7400", "[node]:7400", "--help",
        "-a:1", "http://node:7400", "unix:/tmp/socket", "node a:7400",
        "node:99999999999999999999"}) {
    INFO(bad);
    const absl::Status status = CheckEndpoint(bad);
    CHECK(absl::IsInvalidArgument(status));
    CHECK(std::string(status.message()).find("'" + bad + "'") != std::string::npos);
  }
}

}  // namespace
}  // namespace latentd
