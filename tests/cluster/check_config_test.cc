// `latentd --check-config FILE`, and what a daemon says that cannot start.
#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/loopback.h"
#include "tests/cluster/process.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;

CommandResult CheckConfig(const std::string& path) {
  return RunCommand({Runfile("daemon/latentd"), "--check-config", path}, absl::Seconds(20));
}

std::string Written(const std::string& yaml) {
  const std::string path = FreshFolder("config") + "/latentd.yaml";
  WriteFile(path, yaml);
  return path;
}

TEST_CASE("the configurations that are shipped are valid") {
  for (const char* path : {"config/latentd.example.yaml", "deploy/latentd.yaml"}) {
    const CommandResult result = CheckConfig(Runfile(path));
    INFO(path << ": " << result.err);
    CHECK(result.end.exit_code == 0);
  }
}

TEST_CASE("every fault of a file is told at once, with its place") {
  const std::string path = Written(
      "node: { id: node-a }\n"
      "control: { listen: nowhere }\n"
      "data:\n"
      "  lanes: [{ device: cpu, cache: lots }]\n"
      "  limts: { inflight_per_session: 1 }\n"
      "model: deepseek-v3\n"
      "record: fp7\n");
  const CommandResult result = CheckConfig(path);
  CHECK(result.end.exit_code == 2);
  for (const char* place : {":2:", ":4:", ":5:", ":7:"}) {
    CHECK_THAT(result.err + result.out, Contains(absl::StrCat(path, place)));
  }
  CHECK_THAT(result.err + result.out, Contains("limts") && Contains("fp7"));
}

TEST_CASE("a file that is not there or is not YAML is refused with exit code 2") {
  const CommandResult missing = CheckConfig("/nonexistent/latentd.yaml");
  CHECK(missing.end.exit_code == 2);
  CHECK_THAT(missing.err + missing.out, Contains("/nonexistent/latentd.yaml"));
  const CommandResult broken = CheckConfig(Written("node: [unclosed\n"));
  CHECK(broken.end.exit_code == 2);
}

TEST_CASE("a daemon does not start with a broken configuration") {
  const CommandResult result =
      RunCommand({Runfile("daemon/latentd"), "--config", Written("node: 7\n")}, absl::Seconds(20));
  CHECK_FALSE(result.timed_out);
  CHECK(result.end.exit_code == 2);
}

TEST_CASE("a daemon whose port is taken says which and ends") {
  Cluster cluster;
  const CommandResult result =
      RunCommand({Runfile("daemon/latentd"), "--config", cluster.node(0).config_path()},
                 Scaled(absl::Seconds(20)));
  CHECK_FALSE(result.timed_out);
  CHECK(result.end.exit_code > 0);
  CHECK_THAT(result.err, Contains(cluster.endpoint()));
}

}  // namespace
}  // namespace latentd::testing
