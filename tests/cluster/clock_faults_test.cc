// The daemons' clocks of the day jump while queries run: leases, deadlines and tables go by clocks
// that do not.
#include <catch2/catch.hpp>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/fault_world.h"
#include "tests/cluster/process.h"

namespace latentd::testing {
namespace {

constexpr char kFakeTime[] = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

TEST_CASE("a clock that jumps a day ahead, and then two days back, is nobody's loss") {
  if (Skipped()) return;
  if (!std::filesystem::exists(kFakeTime)) {
    WARN("skipped: no " << kFakeTime << " (package libfaketime)");
    return;
  }
  const std::string offset = absl::StrCat(FreshFolder("clock"), "/offset");
  const auto jump = [&](const std::string& to) {
    WriteFile(offset + ".new", to + "\n");
    std::filesystem::rename(offset + ".new", offset);
  };
  jump("+0");
  FaultWorldOptions options;
  options.cluster.command = {
      "/usr/bin/env",
      absl::StrCat("LD_PRELOAD=", Runfile("tests/cluster/true_boottime.so"), ":", kFakeTime),
      absl::StrCat("FAKETIME_TIMESTAMP_FILE=", offset), "FAKETIME_NO_CACHE=1",
      "FAKETIME_DONT_FAKE_MONOTONIC=1"};
  FaultWorld world(options);
  EtcdCluster& cluster = world.cluster();
  const auto before = cluster.Table();
  REQUIRE(before.has_value());
  const uint64_t uptime_ms = cluster.node(0).Status().uptime_ms();
  jump("+1d");
  absl::SleepFor(2 * cluster.options().lease);
  // The daemons did see it.
  CHECK(cluster.node(0).Status().uptime_ms() > uptime_ms + 80'000'000);
  jump("-1d");
  absl::SleepFor(2 * cluster.options().lease);
  CHECK(world.load().WaitForAnswers(60, absl::Seconds(20)));
  CheckUnharmed(world, world.load().Now());
  CheckPublisherUnharmed(world);
  CHECK(cluster.Table()->epoch() == before->epoch());
  CHECK(world.AskForEverything() == std::vector<absl::Status>{});
}

}  // namespace
}  // namespace latentd::testing
