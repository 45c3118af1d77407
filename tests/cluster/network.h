// `TestNetwork` is a handful of hosts on one switch: network namespaces of this machine, joined by
// a bridge, whose cables can be pulled. The test process itself is on the network too, in a
// namespace of its own, so that nothing of the machine's network is touched and the kernel cleans
// up when the test ends, however it ends.
//
// Not synchronised. Make the first one before the process has other threads: they stay where they
// are. Failures throw std::runtime_error.
#ifndef LATENTD_TESTS_CLUSTER_NETWORK_H_
#define LATENTD_TESTS_CLUSTER_NETWORK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/cluster/process.h"

namespace latentd::testing {

class TestNetwork {
 public:
  // Whether this machine allows namespaces to this user; UNAVAILABLE saying why not.
  static absl::Status Available();

  explicit TestNetwork(int hosts);
  ~TestNetwork();
  TestNetwork(const TestNetwork&) = delete;
  TestNetwork& operator=(const TestNetwork&) = delete;

  int size() const { return static_cast<int>(hosts_.size()); }
  // "10.77.0.1"
  std::string Address(int host) const;
  // What goes before a command to run it on the host.
  std::vector<std::string> CommandOn(int host) const;

  // The cable.
  void Unplug(int host);
  void Plug(int host);
  // Packets that `from` sends to `to` are lost; those the other way arrive.
  void Block(int from, int to);
  void Unblock(int from, int to);
  // What netem understands: "delay 20ms loss 2%". UNAVAILABLE where the kernel has no netem.
  absl::Status Disturb(int host, const std::vector<std::string>& netem);
  void Calm(int host);

 private:
  std::vector<std::unique_ptr<Process>> hosts_;  // each keeps a namespace alive
};

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_NETWORK_H_
