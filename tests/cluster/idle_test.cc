// What a daemon costs that nobody asks anything, and how soon it is ready. The figures themselves
// are the benchmarks' business (docs/performance.md); the bounds here are several times as wide.
#include <catch2/catch.hpp>

#include "absl/time/clock.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/raw_calls.h"

namespace latentd::testing {
namespace {

TEST_CASE("an idle daemon takes next to no processor time, with a session open or without") {
  Cluster cluster({.liveness = "ping_ms: 500, dead_ms: 2000"});
  Process& process = cluster.node(0).process();
  const auto idle_share = [&] {
    const absl::Duration before = process.Use().cpu;
    const absl::Time start = absl::Now();
    // The one place where a test lets time pass: that is what it measures.
    absl::SleepFor(absl::Seconds(2));
    return absl::FDivDuration(process.Use().cpu - before, absl::Now() - start);
  };
  const double alone = idle_share();
  RawRequester requester(cluster.endpoint());
  REQUIRE(Ping(requester).ok());
  WARN("idle: " << 100 * alone << " % of a core");
  CHECK(alone < 0.03);
}

TEST_CASE("a daemon with a cache of 1 GiB is ready soon") {
  const absl::Time start = absl::Now();
  Cluster cluster({.cache = "1GiB"});
  const absl::Duration took = absl::Now() - start;
  WARN("start to ready: " << absl::FormatDuration(took));
  CHECK(took < Scaled(absl::Seconds(5)));
  CHECK(cluster.node(0).Status().lanes(0).cache_bytes() == uint64_t{1} << 30);
}

}  // namespace
}  // namespace latentd::testing
