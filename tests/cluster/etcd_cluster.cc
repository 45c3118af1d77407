#include "tests/cluster/etcd_cluster.h"

#include <numeric>
#include <stdexcept>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/frontend.h"
#include "tests/cluster/settled.h"

namespace latentd::testing {
namespace {

constexpr int kClientPort = 2379;
constexpr int kPeerPort = 2380;
constexpr int kControlPort = 7400;

std::string NodeName(int index) { return absl::StrCat("node-", index + 1); }

}  // namespace

EtcdCluster::EtcdCluster(EtcdClusterOptions options)
    : options_(std::move(options)),
      folder_(FreshFolder("etcd-cluster")),
      network_(options_.nodes + kEtcdMembers),
      etcd_(kEtcdMembers) {
  // UCX would also try the loopback interfaces, which look alike on every host.
  setenv("UCX_NET_DEVICES", "eth0", 1);
  for (int member = 0; member < kEtcdMembers; ++member) StartEtcd(member);
  for (int i = 0; i < options_.nodes; ++i) {
    const std::string stem = absl::StrCat(folder_, "/", NodeName(i));
    WriteFile(stem + ".yaml", ConfigOf(i));
    std::vector<std::string> command = network_.CommandOn(i);
    command.insert(command.end(), options_.command.begin(), options_.command.end());
    nodes_.push_back(std::make_unique<Node>(NodeName(i),
                                            absl::StrCat(network_.Address(i), ":", kControlPort),
                                            stem + ".yaml", stem, TlsFiles{}, std::move(command)));
  }
  for (auto& node : nodes_) node->Start();
  for (auto& node : nodes_) node->WaitUntilReady(absl::Seconds(30));
  if (!WaitUntilSettled(absl::Seconds(30))) {
    throw std::runtime_error("the daemons came to no table of all of them");
  }
}

EtcdCluster::~EtcdCluster() {
  for (auto& node : nodes_) node->Kill();
}

ClientOptions EtcdCluster::ClientOf() const {
  ClientOptions options = Frontend::Options(nodes_[0]->endpoint());
  options.endpoints.clear();
  for (const auto& node : nodes_) options.endpoints.push_back(node->endpoint());
  return options;
}

std::string EtcdCluster::EtcdUrl(int member, int port) const {
  return absl::StrCat("http://", network_.Address(etcd_host(member)), ":", port);
}

void EtcdCluster::StartEtcd(int member) {
  std::vector<std::string> peers;
  for (int i = 0; i < kEtcdMembers; ++i) {
    peers.push_back(absl::StrCat("etcd-", i, "=", EtcdUrl(i, kPeerPort)));
  }
  std::vector<std::string> argv = network_.CommandOn(etcd_host(member));
  for (const std::string& argument :
       std::vector<std::string>{"/usr/bin/etcd",
                                "--name",
                                absl::StrCat("etcd-", member),
                                "--data-dir",
                                absl::StrCat(folder_, "/etcd-", member),
                                "--listen-client-urls",
                                EtcdUrl(member, kClientPort),
                                "--advertise-client-urls",
                                EtcdUrl(member, kClientPort),
                                "--listen-peer-urls",
                                EtcdUrl(member, kPeerPort),
                                "--initial-advertise-peer-urls",
                                EtcdUrl(member, kPeerPort),
                                "--initial-cluster",
                                absl::StrJoin(peers, ","),
                                "--heartbeat-interval",
                                "50",
                                "--election-timeout",
                                "500",
                                "--unsafe-no-fsync"}) {
    argv.push_back(argument);
  }
  etcd_[static_cast<size_t>(member)] =
      std::make_unique<Process>(argv, absl::StrCat(folder_, "/etcd-", member, "-log"));
}

void EtcdCluster::KillEtcd(int member) { etcd_.at(static_cast<size_t>(member))->Kill(); }

int EtcdCluster::EtcdLeader() const {
  for (int member = 0; member < kEtcdMembers; ++member) {
    if (!etcd_[static_cast<size_t>(member)]->Running()) continue;
    const CommandResult metrics =
        RunCommand({"/usr/bin/curl", "-s", "-m", "2", EtcdUrl(member, kClientPort) + "/metrics"},
                   absl::Seconds(5));
    if (absl::StrContains(metrics.out, "\netcd_server_is_leader 1")) return member;
  }
  return -1;
}

std::string EtcdCluster::ConfigOf(int index) const {
  std::vector<std::string> endpoints;
  for (int i = 0; i < kEtcdMembers; ++i) {
    endpoints.push_back(absl::StrCat("\"", network_.Address(etcd_host(i)), ":", kClientPort, "\""));
  }
  const std::string address = network_.Address(index);
  return absl::StrCat("node: { id: ", NodeName(index), ", advertise: ", address, " }\n",
                      "control: { listen: \"", address, ":", kControlPort, "\" }\n",
                      "data:\n  lanes:\n    - { device: cpu, cache: ", options_.cache, " }\n",
                      "  liveness: { ping_ms: 200, dead_ms: 1000 }\n",
                      "model: { name: test-2-layers, layers: 2, latent: 512, rope: 64, heads: 128 "
                      "}\nrecord: bf16\nreplicas: ",
                      options_.replicas, "\nmetrics: { listen: off }\nlog: { level: debug }\n",
                      "membership: { backend: etcd, cluster: faults, lease: ",
                      absl::ToInt64Milliseconds(options_.lease), "ms, endpoints: [",
                      absl::StrJoin(endpoints, ", "), "] }\n", options_.more);
}

std::optional<v1::RoutingTable> EtcdCluster::Table() {
  for (auto& node : nodes_) {
    if (!node->process().Running()) continue;
    auto table = node->control().Table(absl::Seconds(1));
    if (table.ok()) return *std::move(table);
  }
  return std::nullopt;
}

bool EtcdCluster::WaitUntilSettled(absl::Duration limit, std::vector<int> alive) {
  if (alive.empty()) {
    alive.resize(static_cast<size_t>(size()));
    std::iota(alive.begin(), alive.end(), 0);
  }
  const uint32_t holders =
      std::min<uint32_t>(options_.replicas, static_cast<uint32_t>(alive.size()));
  return Eventually(limit, [&] {
    std::optional<uint64_t> epoch;
    for (const int index : alive) {
      const auto table = node(index).control().Table(absl::Seconds(1));
      if (!table.ok() || !Settled(*table, holders, alive.size())) return false;
      if (epoch.value_or(table->epoch()) != table->epoch()) return false;
      epoch = table->epoch();
    }
    return true;
  });
}

}  // namespace latentd::testing
