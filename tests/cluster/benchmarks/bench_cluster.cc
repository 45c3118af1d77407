#include "tests/cluster/benchmarks/bench_cluster.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/loopback.h"
#include "tests/cluster/settled.h"

namespace latentd::testing {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLogBytesToTell = 2000;

std::string FindProgram(const std::string& given, const char* variable, const std::string& name,
                        const std::string& in_tree) {
  std::vector<std::string> places;
  if (!given.empty()) {
    places = {given};
  } else if (const char* named = std::getenv(variable); named != nullptr) {
    places = {named};
  } else {
    const fs::path self = fs::read_symlink("/proc/self/exe");
    places = {(self.parent_path() / name).string(),
              absl::StrCat(self.string(), ".runfiles/latentd/", in_tree), Runfile(in_tree),
              "/usr/bin/" + name};
  }
  for (const std::string& place : places) {
    if (!fs::is_directory(place) && access(place.c_str(), X_OK) == 0) return place;
  }
  throw std::runtime_error(absl::StrCat("no program ", name, ": not at ",
                                        absl::StrJoin(places, ", "), "; name it with --", name,
                                        " or $", variable));
}

}  // namespace

BenchPrograms FindPrograms(const BenchPrograms& given, bool with_etcd) {
  BenchPrograms found;
  found.latentd = FindProgram(given.latentd, "LATENTD_DAEMON", "latentd", "daemon/latentd");
  if (with_etcd) found.etcd = FindProgram(given.etcd, "LATENTD_ETCD", "etcd", "etcd");
  return found;
}

BenchCluster::BenchCluster(BenchClusterOptions options)
    : options_(std::move(options)), folder_(FreshFolder("bench")) {
  if (options_.etcd) {
    etcd_.emplace(EtcdProcessOptions{.members = static_cast<size_t>(options_.etcd_members),
                                     .program = options_.programs.etcd});
  }
  for (const uint16_t port : FreePorts(options_.nodes)) {
    endpoints_.push_back(absl::StrCat("127.0.0.1:", port));
    controls_.emplace_back(endpoints_.back());
  }
  processes_.resize(endpoints_.size());
  for (int node = 0; node < size(); ++node) {
    WriteFile(absl::StrCat(folder_, "/", NodeName(node), ".yaml"), ConfigOf(node));
    Start(node);
  }
  WaitUntilSettled();
}

BenchCluster::~BenchCluster() {
  processes_.clear();
  etcd_.reset();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::string BenchCluster::NodeName(int node) const { return absl::StrCat("node-", node + 1); }

ClientOptions BenchCluster::ClientOf() const {
  return {.endpoints = endpoints_, .client_name = "benchmark", .transports = {options_.transport}};
}

void BenchCluster::Start(int node) {
  const std::string stem = absl::StrCat(folder_, "/", NodeName(node));
  processes_.at(static_cast<size_t>(node)) = std::make_unique<Process>(
      std::vector<std::string>{options_.programs.latentd, "--config", stem + ".yaml"}, stem);
}

std::string BenchCluster::ConfigOf(int node) const {
  std::string membership = "{ backend: static, peers: [";
  if (etcd_.has_value()) {
    membership = absl::StrCat(
        "{ backend: etcd, cluster: benchmark, lease: ", absl::ToInt64Milliseconds(options_.lease),
        "ms, endpoints: [\"", absl::StrJoin(etcd_->endpoints(), "\", \""), "\"] }");
  } else {
    std::vector<std::string> peers;
    for (int peer = 0; peer < size(); ++peer) {
      peers.push_back(absl::StrCat("{ id: ", NodeName(peer), ", control: \"",
                                   endpoints_[static_cast<size_t>(peer)],
                                   "\", capacity: ", options_.cache, " }"));
    }
    absl::StrAppend(&membership, absl::StrJoin(peers, ", "), "] }");
  }
  return absl::StrCat(
      "node: { id: ", NodeName(node), ", advertise: 127.0.0.1 }\n",              //
      "control: { listen: \"", endpoints_[static_cast<size_t>(node)], "\" }\n",  //
      "data:\n  transports: [", options_.transport,                              //
      "]\n  lanes: [{ device: cpu, threads: ", options_.threads, ", cache: ", options_.cache,
      " }]\n", "model: { name: test-2-layers, layers: 2, latent: 512, rope: 64, heads: 128 }\n",
      "record: bf16\nreplicas: ", options_.replicas, "\nmetrics: { listen: off }\n",
      "membership: ", membership, "\n");
}

std::string BenchCluster::Tail(int node) const {
  const std::string log = processes_[static_cast<size_t>(node)]->Err();
  return log.substr(log.size() - std::min(log.size(), kLogBytesToTell));
}

std::optional<uint32_t> BenchCluster::SlotsHeld(int node) {
  const auto status = ControlOf(node).Status(absl::Seconds(1));
  if (!status.ok()) return std::nullopt;
  return status->replication().slots_held();
}

uint64_t BenchCluster::Epoch(int node) {
  const auto status = ControlOf(node).Status();
  if (!status.ok()) {
    throw std::runtime_error(absl::StrCat(NodeName(node), ": ", status.status().ToString()));
  }
  return status->epoch();
}

void BenchCluster::WaitUntilSettled(absl::Duration limit) {
  const uint32_t holders = std::min(options_.replicas, static_cast<uint32_t>(size()));
  const bool settled = Eventually(limit, [&] {
    std::optional<uint64_t> epoch;
    for (int node = 0; node < size(); ++node) {
      if (!processes_[static_cast<size_t>(node)]->Running()) {
        throw std::runtime_error(absl::StrCat(NodeName(node), " has ended:\n", Tail(node)));
      }
      const auto table = ControlOf(node).Table(absl::Seconds(1));
      if (!table.ok() || !Settled(*table, holders, static_cast<size_t>(size()))) {
        absl::SleepFor(absl::Milliseconds(20));
        return false;
      }
      if (epoch.value_or(table->epoch()) != table->epoch()) return false;
      epoch = table->epoch();
    }
    return true;
  });
  if (!settled) {
    throw std::runtime_error(absl::StrCat("the nodes came to no table of all of them within ",
                                          absl::FormatDuration(limit), ":\n", Tail(0)));
  }
}

}  // namespace latentd::testing
