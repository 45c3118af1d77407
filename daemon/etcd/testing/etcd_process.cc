#include "daemon/etcd/testing/etcd_process.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/loopback.h"

namespace latentd::testing {
namespace {

constexpr char kCurl[] = "/usr/bin/curl";
constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr size_t kPortsOfMember = 3;  // clients, other members, metrics
constexpr size_t kLogBytesToTell = 2000;

std::string Url(const char* scheme, uint16_t port) {
  return absl::StrCat(scheme, "://127.0.0.1:", port);
}

// What /metrics or /health says, or nothing while nobody answers.
std::string Get(const std::string& address, const std::string& path) {
  try {
    return HttpGet(address, path, absl::Seconds(2));
  } catch (const std::runtime_error&) {
    return "";
  }
}

}  // namespace

EtcdProcesses::EtcdProcesses(EtcdProcessOptions options)
    : options_(std::move(options)), folder_(FreshFolder("etcd")), members_(options_.members) {
  const std::vector<uint16_t> ports = FreePorts(static_cast<int>(size() * kPortsOfMember));
  for (size_t i = 0; i < size(); ++i) {
    endpoints_.push_back(absl::StrCat("127.0.0.1:", ports[i * kPortsOfMember]));
    members_[i].metrics_address = absl::StrCat("127.0.0.1:", ports[i * kPortsOfMember + 2]);
    members_[i].argv = Argv(i, ports);
  }
  for (size_t i = 0; i < size(); ++i) Start(members_[i], i);
  for (size_t i = 0; i < size(); ++i) WaitUntilServes(i);
}

EtcdProcesses::~EtcdProcesses() {
  members_.clear();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::vector<std::string> EtcdProcesses::Argv(size_t member,
                                             const std::vector<uint16_t>& ports) const {
  const char* scheme = options_.tls ? "https" : "http";
  const uint16_t* own = &ports[member * kPortsOfMember];
  const auto election_ms = absl::ToInt64Milliseconds(options_.election_timeout);
  std::string cluster;
  for (size_t i = 0; i < size(); ++i) {
    absl::StrAppend(&cluster, i == 0 ? "" : ",", "m", i, "=",
                    Url("http", ports[i * kPortsOfMember + 1]));
  }
  std::vector<std::string> argv = {
      options_.program,
      absl::StrCat("--name=m", member),
      absl::StrCat("--data-dir=", folder_, "/m", member),
      absl::StrCat("--listen-client-urls=", Url(scheme, own[0])),
      absl::StrCat("--advertise-client-urls=", Url(scheme, own[0])),
      absl::StrCat("--listen-peer-urls=", Url("http", own[1])),
      absl::StrCat("--initial-advertise-peer-urls=", Url("http", own[1])),
      absl::StrCat("--listen-metrics-urls=", Url("http", own[2])),
      absl::StrCat("--initial-cluster=", cluster),
      absl::StrCat("--heartbeat-interval=", election_ms / 10),
      absl::StrCat("--election-timeout=", election_ms),
      "--logger=zap",
      "--log-level=warn"};
  if (options_.tls) {
    argv.push_back(absl::StrCat("--cert-file=", options_.tls->cert_path));
    argv.push_back(absl::StrCat("--key-file=", options_.tls->key_path));
    argv.push_back(absl::StrCat("--trusted-ca-file=", options_.tls->ca_path));
    argv.push_back("--client-cert-auth");
  }
  return argv;
}

void EtcdProcesses::Start(Member& member, size_t index) {
  member.process.emplace(member.argv, absl::StrCat(folder_, "/log", index));
}

void EtcdProcesses::WaitUntilServes(size_t member) {
  const bool serves = Eventually(kPatience, [&] {
    if (!members_[member].process->Running()) Fail(member, "has ended");
    return absl::StrContains(Get(members_[member].metrics_address, "/health"), "\"true\"");
  });
  if (!serves) Fail(member, "does not serve");
}

size_t EtcdProcesses::Leader() {
  size_t leader = 0;
  const bool found = Eventually(kPatience, [&] {
    for (leader = 0; leader < size(); ++leader) {
      if (absl::StrContains(Get(members_[leader].metrics_address, "/metrics"),
                            "\netcd_server_is_leader 1\n")) {
        return true;
      }
    }
    return false;
  });
  if (!found) Fail(0, "and the others have no leader");
  return leader;
}

void EtcdProcesses::Kill(size_t member) { members_[member].process->Kill(); }
void EtcdProcesses::Stop(size_t member) { members_[member].process->Freeze(); }
void EtcdProcesses::Continue(size_t member) { members_[member].process->Signal(SIGCONT); }
void EtcdProcesses::Restart(size_t member) { Start(members_[member], member); }

void EtcdProcesses::RestartEmpty(size_t member) {
  std::filesystem::remove_all(absl::StrCat(folder_, "/m", member));
  Restart(member);
}

void EtcdProcesses::Compact(int64_t revision) {
  Call("/v3/kv/compaction", absl::StrCat("{\"revision\": \"", revision, "\"}"));
}

void EtcdProcesses::EnableAuth(const std::string& user, const std::string& password,
                               const std::string& prefix) {
  std::string end = prefix;
  ++end.back();
  Call("/v3/auth/user/add", R"({"name": "root", "password": "root"})");
  Call("/v3/auth/role/add", R"({"name": "root"})");
  Call("/v3/auth/user/grant", R"({"user": "root", "role": "root"})");
  Call("/v3/auth/user/add",
       absl::StrCat("{\"name\": \"", user, "\", \"password\": \"", password, "\"}"));
  Call("/v3/auth/role/add", R"({"name": "keys"})");
  Call("/v3/auth/role/grant",
       absl::StrCat("{\"name\": \"keys\", \"perm\": {\"permType\": \"READWRITE\", \"key\": \"",
                    absl::Base64Escape(prefix), "\", \"range_end\": \"", absl::Base64Escape(end),
                    "\"}}"));
  Call("/v3/auth/user/grant", absl::StrCat("{\"user\": \"", user, "\", \"role\": \"keys\"}"));
  Call("/v3/auth/enable", "{}");
}

std::string EtcdProcesses::Call(const std::string& path, const std::string& json) {
  const CommandResult result = RunCommand({kCurl, "-sS", "--fail-with-body", "--noproxy", "*", "-d",
                                           json, absl::StrCat("http://", endpoints_[0], path)},
                                          kPatience);
  if (result.end.exit_code != 0) Fail(0, absl::StrCat(path, ": ", result.out, result.err));
  return result.out;
}

void EtcdProcesses::Fail(size_t member, const std::string& what) {
  const std::string log = members_[member].process ? members_[member].process->Err() : "";
  throw std::runtime_error(
      absl::StrCat("etcd member ", member, " ", what, "\n",
                   log.substr(log.size() - std::min(log.size(), kLogBytesToTell))));
}

}  // namespace latentd::testing
