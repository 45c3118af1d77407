#include "tests/cluster/network.h"

#include <catch2/catch.hpp>

#include "tests/cluster/eventually.h"

namespace latentd::testing {
namespace {

// Whether `from` reaches the web server on `to`.
bool Reaches(const TestNetwork& network, int from, int to) {
  std::vector<std::string> argv = network.CommandOn(from);
  for (const std::string& argument :
       {std::string("/usr/bin/curl"), std::string("-s"), std::string("-m"), std::string("1"),
        "http://" + network.Address(to) + ":8000/"}) {
    argv.push_back(argument);
  }
  return RunCommand(argv, absl::Seconds(5)).end.exit_code == 0;
}

TEST_CASE("hosts reach each other until a cable is pulled or packets are lost") {
  if (const absl::Status available = TestNetwork::Available(); !available.ok()) {
    WARN("skipped: " << available);
    return;
  }
  TestNetwork network(3);
  const std::string folder = FreshFolder("web");
  std::vector<Process> servers;
  for (int host = 0; host < network.size(); ++host) {
    std::vector<std::string> argv = network.CommandOn(host);
    for (const char* argument : {"/usr/bin/env", "python3", "-m", "http.server", "8000"})
      argv.emplace_back(argument);
    servers.emplace_back(argv, folder + "/server-" + std::to_string(host));
  }
  for (int host = 0; host < network.size(); ++host) {
    REQUIRE(Eventually(absl::Seconds(20), [&] { return Reaches(network, 0, host); }));
  }

  network.Unplug(1);
  CHECK_FALSE(Reaches(network, 0, 1));
  CHECK(Reaches(network, 0, 2));
  network.Plug(1);
  CHECK(Eventually(absl::Seconds(10), [&] { return Reaches(network, 0, 1); }));

  network.Block(2, 0);  // its answers too are lost
  CHECK_FALSE(Reaches(network, 2, 0));
  CHECK_FALSE(Reaches(network, 0, 2));
  CHECK(Reaches(network, 2, 1));
  network.Unblock(2, 0);
  CHECK(Eventually(absl::Seconds(10), [&] { return Reaches(network, 0, 2); }));
}

}  // namespace
}  // namespace latentd::testing
