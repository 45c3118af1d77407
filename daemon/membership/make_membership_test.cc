#include "daemon/membership/make_membership.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

TEST_CASE("the static table has the epoch of the configuration") {
  Config config;
  config.node.id = "node-a";
  config.membership.epoch = 12;
  const auto membership = MakeMembership(config, "1.2.3");
  REQUIRE(membership.ok());
  const NodeInfo self{.id = "node-a", .control_address = "127.0.0.1:7400", .capacity_bytes = 1};
  REQUIRE((*membership)->Start(self, [](const TablePtr&) {}).ok());
  CHECK((*membership)->table()->epoch() == Epoch{12});
}

}  // namespace
}  // namespace latentd
