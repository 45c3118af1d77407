#include "daemon/process/descriptors.h"

#include <sys/resource.h>

#include <catch2/catch.hpp>

namespace latentd {
namespace {

TEST_CASE("a session wants a descriptor for the control plane and one for every lane") {
  Config config;
  config.data.limits.sessions = 1000;
  config.data.lanes.resize(1);
  const uint64_t one_lane = DescriptorsWanted(config);
  CHECK(one_lane > 2000);
  config.data.lanes.resize(3);
  CHECK(DescriptorsWanted(config) == one_lane + 2000);
}

TEST_CASE("the soft limit becomes the hard one") {
  rlimit limit;
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max / 2;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  RaiseDescriptorLimit(Config());
  rlimit raised;
  REQUIRE(getrlimit(RLIMIT_NOFILE, &raised) == 0);
  CHECK(raised.rlim_cur == limit.rlim_max);
}

}  // namespace
}  // namespace latentd
