// `latent-bench fetch` as an operator runs it.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/cluster/cluster.h"
#include "tests/cluster/process.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

CommandResult Bench(const std::string& endpoint, std::vector<std::string> arguments) {
  std::vector<std::string> argv = {
      Runfile("tools/latent-bench"), "--endpoint", endpoint, "--json", "-", "fetch"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return RunCommand(argv, Scaled(absl::Seconds(60)));
}

TEST_CASE("fetches of one and of several holders move the same bytes, together or selected") {
  Cluster cluster({.nodes = 3});
  const CommandResult result =
      Bench(cluster.endpoint(), {"--tokens", "100", "--context", "1000", "--holders", "3",
                                 "--requests", "3", "--warmup", "1"});
  INFO(result.err);
  REQUIRE(result.end.exit_code == 0);
  const json report = json::parse(result.out);
  std::vector<std::string> kinds;
  for (const json& fetch : report["fetches"]) {
    kinds.push_back(fetch["fetch"].get<std::string>() + " " +
                    std::to_string(fetch["holders"].get<int>()));
    CHECK(fetch["bytes"] == 100 * 2 * 1152);
    CHECK(fetch["p50_us"] > 0);
  }
  CHECK(kinds == std::vector<std::string>{"plain 1", "contiguous 1", "contiguous, spliced 1",
                                          "selected 1", "contiguous 3", "contiguous, spliced 3",
                                          "selected 3"});
}

TEST_CASE("a fetch that cannot be measured is refused by the flag that asks for it") {
  Cluster cluster;
  const auto refused = [&](std::vector<std::string> arguments) {
    const CommandResult result = Bench(cluster.endpoint(), std::move(arguments));
    CHECK(result.end.exit_code != 0);
    return result.err;
  };
  CHECK_THAT(refused({"--tokens", "20", "--context", "10"}), Contains("--tokens 20"));
  CHECK_THAT(refused({"--tokens", "0"}), Contains("--tokens"));
  CHECK_THAT(refused({"--layers", "3"}), Contains("--layers 3"));
  CHECK_THAT(refused({"--context", "1000000000"}), Contains("--context"));
  CHECK_THAT(refused({"--tokens", "64", "--context", "64", "--holders", "2"}), Contains("2"));
}

}  // namespace
}  // namespace latentd::testing
