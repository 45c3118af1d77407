#include "tests/cluster/network.h"

#include <sched.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/cluster/eventually.h"

namespace latentd::testing {
namespace {

constexpr char kIp[] = "/usr/sbin/ip";
constexpr char kTc[] = "/usr/sbin/tc";
constexpr char kNsenter[] = "/usr/bin/nsenter";
constexpr char kBridge[] = "eth0";  // as on the hosts: UCX is told to use eth0 everywhere

void Run(const std::vector<std::string>& argv) {
  const CommandResult result = RunCommand(argv, absl::Seconds(10));
  if (result.end.exit_code == 0) return;
  throw std::runtime_error(absl::StrCat(absl::StrJoin(argv, " "), ": ", result.err));
}

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// The test's own place on the network, and its switch; entered once, before there are other threads.
// The switch stays: UCX remembers what it once learnt of the process's interfaces.
absl::Status EnterNamespace() {
  static const absl::Status entered = [] {
    if (unshare(CLONE_NEWNET) != 0) {
      return absl::UnavailableError(
          absl::StrCat("network namespaces are not permitted here: ", std::strerror(errno)));
    }
    Run({kIp, "link", "set", "lo", "up"});
    Run({kIp, "link", "add", kBridge, "type", "bridge"});
    Run({kIp, "address", "add", "10.77.0.254/24", "dev", kBridge});
    Run({kIp, "link", "set", kBridge, "up"});
    return absl::OkStatus();
  }();
  return entered;
}

uint64_t NamespaceOf(pid_t pid) {
  struct stat info {};
  return stat(absl::StrCat("/proc/", pid, "/ns/net").c_str(), &info) == 0 ? info.st_ino : 0;
}

std::string Cable(int host) { return absl::StrCat("host", host); }

}  // namespace

absl::Status TestNetwork::Available() {
  for (const char* program : {kIp, kNsenter}) {
    struct stat info {};
    if (stat(program, &info) != 0) return absl::UnavailableError(absl::StrCat("no ", program));
  }
  return EnterNamespace();
}

TestNetwork::TestNetwork(int hosts) {
  if (const absl::Status entered = EnterNamespace(); !entered.ok()) {
    throw std::runtime_error(std::string(entered.message()));
  }
  // Hosts of an earlier network had the same addresses and other cables.
  Run({kIp, "neighbour", "flush", "dev", kBridge});
  const std::string folder = FreshFolder("network");
  for (int i = 0; i < hosts; ++i) {
    hosts_.push_back(std::make_unique<Process>(
        std::vector<std::string>{"/usr/bin/unshare", "--net", "/bin/sleep", "infinity"},
        absl::StrCat(folder, "/host-", i)));
    const pid_t pid = hosts_.back()->pid();
    const uint64_t mine = NamespaceOf(getpid());
    if (!Eventually(absl::Seconds(5), [&] {
          const uint64_t its = NamespaceOf(pid);
          return its != 0 && its != mine;
        })) {
      throw std::runtime_error("a host's network namespace did not appear");
    }
    Run({kIp, "link", "add", Cable(i), "type", "veth", "peer", "name", "eth0", "netns",
         std::to_string(pid)});
    Run({kIp, "link", "set", Cable(i), "master", kBridge, "up"});
    Run(CommandOn(i) + std::vector<std::string>{kIp, "link", "set", "lo", "up"});
    Run(CommandOn(i) + std::vector<std::string>{kIp, "address", "add",
                                                absl::StrCat(Address(i), "/24"), "dev", "eth0"});
    Run(CommandOn(i) + std::vector<std::string>{kIp, "link", "set", "eth0", "up"});
  }
}

TestNetwork::~TestNetwork() {
  for (int i = 0; i < size(); ++i)
    (void)RunCommand({kIp, "link", "del", Cable(i)}, absl::Seconds(10));
}

std::string TestNetwork::Address(int host) const { return absl::StrCat("10.77.0.", host + 1); }

std::vector<std::string> TestNetwork::CommandOn(int host) const {
  return {kNsenter,
          absl::StrCat("--net=/proc/", hosts_.at(static_cast<size_t>(host))->pid(), "/ns/net")};
}

void TestNetwork::Unplug(int host) { Run({kIp, "link", "set", Cable(host), "down"}); }
void TestNetwork::Plug(int host) { Run({kIp, "link", "set", Cable(host), "up"}); }

void TestNetwork::Block(int from, int to) {
  Run(CommandOn(from) +
      std::vector<std::string>{kIp, "route", "add", "blackhole", absl::StrCat(Address(to), "/32")});
}

void TestNetwork::Unblock(int from, int to) {
  Run(CommandOn(from) +
      std::vector<std::string>{kIp, "route", "del", "blackhole", absl::StrCat(Address(to), "/32")});
}

absl::Status TestNetwork::Disturb(int host, const std::vector<std::string>& netem) {
  const CommandResult result = RunCommand(
      std::vector<std::string>{kTc, "qdisc", "add", "dev", Cable(host), "root", "netem"} + netem,
      absl::Seconds(10));
  if (result.end.exit_code == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("the kernel has no netem: ", result.err));
}

void TestNetwork::Calm(int host) { Run({kTc, "qdisc", "del", "dev", Cable(host), "root"}); }

}  // namespace latentd::testing
